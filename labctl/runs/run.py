"""The engine of one run: what an experiment uses to switch, sweep, acquire and record.

A point is committed when its block ends without an exception. Everything that the run switched on is
switched off by it in reverse order, each step attempted even if another fails. Records go one way:
engine -> store and progress; nobody is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labctl.bench.bench import Bench
from labctl.errors import LabctlError
from labctl.runs.interrupts import AFTER_POINT, NOW, StopRequest
from labctl.runs.progress import Progress, Silent
from labctl.store import RunWriter
from labctl.sweeps import Axis, visits
from labctl.timetags import Accumulator, TagBlock

_NO_SWEEP = ("single", 0)
_SWITCHES = ("emission", "enabled", "open")


class RunStopped(Exception):
    """The run was asked to stop; what was committed is kept."""


@dataclass(frozen=True)
class Acquisition:
    """A finished acquisition: its number in the file, its live time, and counts by channel."""

    number: int
    live_time_s: float
    counts: dict[int, int]

    def rate(self, *channels: int) -> float:
        """Sum of the count rates of `channels` in 1/s."""
        return sum(self.counts.get(c, 0) for c in channels) / self.live_time_s

    def rate_error(self, *channels: int) -> float:
        """Poisson standard error of `rate` in 1/s."""
        return float(np.sqrt(sum(self.counts.get(c, 0) for c in channels))) / self.live_time_s


@dataclass
class Point:
    """One point of a sweep while it is being taken: its axis values, and what is recorded for it."""

    sweep: str
    index: int
    values: dict[str, float]
    reference: bool = False
    attempt: int = 0
    recorded: dict[str, float | int | str | bool] = field(default_factory=dict)

    def __getattr__(self, name: str) -> float:
        values = self.__dict__.get("values", {})
        if name in values:
            return float(values[name])
        raise AttributeError(f"this point has no axis {name!r}; axes: {', '.join(values)}")

    def record(self, **values: float | int | str | bool) -> None:
        """Record values for this point under the names that the experiment declares in `records`."""
        self.recorded.update(values)


class Run:
    """One run on an open bench.

    seed: of everything random that the run decides (the order of points).
    slice_s: bench time between two looks at stop requests.
    truth_by_acquisition: on a twin, the hidden truth when each acquisition began; for the file only.
    """

    def __init__(
        self,
        bench: Bench,
        writer: RunWriter,
        records: dict[str, str],
        *,
        seed: int = 0,
        slice_s: float = 0.05,
        stop: StopRequest | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.bench = bench
        self.seed = seed
        self.stop = stop or StopRequest()
        self.truth_by_acquisition: dict[str, Any] = {}
        self._writer = writer
        self._records = records
        self._slice_s = slice_s
        self._progress: Progress = progress or Silent()
        self._place = _NO_SWEEP
        self._last_s = 0.0

    @contextmanager
    def emission(self, *sources: Any) -> Iterator[None]:
        """Switch lasers, pulsed sources and shutters on, and off again in reverse order on leaving.

        Each is switched off even if another refuses; a refusal is recorded and raised at the end.
        """
        switched: list[Any] = []
        try:
            for source in sources:
                switched.append(source)  # before switching: a failed switch-on is switched off too
                self._switch(source, True)
            yield
        finally:
            failures = [f for source in reversed(switched) if (f := self._switch_off(source)) is not None]
            if failures:
                raise failures[0]

    def switch(self, source: Any, on: bool) -> None:
        """Switch one source on or off in the middle of a run; it must be inside `emission`."""
        self._switch(source, on)

    def sweep(
        self,
        name: str,
        *,
        shuffle: bool = False,
        reference_every: int = 0,
        reference: float | None = None,
        **axis: Axis,
    ) -> Iterator[Point]:
        """Visit the points of one axis; each is committed when its block ends without an exception.

        reference_every: take a reference point, at the axis value `reference`, before every so many
        points and at the end; it has an index behind those of the axis.
        """
        ((axis_name, points),) = axis.items()
        if reference_every and reference is None:
            raise ValueError("reference_every needs the axis value of the reference")
        n_references = 0
        order = visits(len(points), shuffle=shuffle, seed=self.seed, reference_every=reference_every)
        for visit in order:
            index = visit.index
            value = points[index] if not visit.reference else float(reference or 0.0)
            if visit.reference:
                index = len(points) + n_references
                n_references += 1
            point = Point(name, index, {axis_name: value}, visit.reference)
            self._place = (name, index)
            yield point
            self._commit(point, {axis_name: points.unit})
            self._place = _NO_SWEEP
            self._stop_if(AFTER_POINT)

    def acquire(
        self, tagger: Any, dwell_s: float, *accumulators: Accumulator, channels: list[int], label: str = ""
    ) -> Acquisition:
        """Take tags of `channels` for `dwell_s`; they flow into the accumulators and into the store.

        label: name in the file of an acquisition outside a sweep.
        """
        names = {channel: str(channel) for channel in channels}
        sweep, index = (label, 0) if label else self._place
        number = self._writer.begin_acquisition(names, sweep, index, self.bench.clock.now())
        if self.bench.twin is not None:
            self.truth_by_acquisition[str(number)] = self.bench.twin.client.truth()["parameters"]["derived"]
        counts = dict.fromkeys(channels, 0)
        live_ps = 0
        for block in tagger.stream(channels, dwell_s, self._slice_s):
            self._writer.tags(number, block)
            for accumulator in accumulators:
                accumulator.update(block)
            live_ps += block.live_time_ps
            self._count(block, counts)
            self._stop_if(NOW)
        self._writer.end_acquisition(number, live_ps)
        return Acquisition(number, live_ps * 1e-12, counts)

    def event(self, kind: str, **fields: Any) -> None:
        """Put a remark into the record."""
        self._writer.event(kind, self._now_s(), **fields)

    def _now_s(self) -> float:
        """Bench time, or the last one known: a twin that has died must not keep the run from its record."""
        with suppress(LabctlError):
            self._last_s = self.bench.clock.now()
        return self._last_s

    def _count(self, block: TagBlock, counts: dict[int, int]) -> None:
        rates = {}
        for channel in counts:
            n = int(np.count_nonzero(block.channels == channel))
            counts[channel] += n
            if block.live_time_ps > 0:
                rates[str(channel)] = n / (block.live_time_ps * 1e-12)
        self._progress.advance(block.duration_ps * 1e-12, rates)

    def _commit(self, point: Point, units: dict[str, str]) -> None:
        unknown = set(point.recorded) - set(self._records)
        if unknown:
            raise KeyError(f"{', '.join(sorted(unknown))} is not declared in the experiment's `records`")
        values = point.values | {"reference": point.reference} | point.recorded
        self._writer.row(
            point.sweep, point.index, point.attempt, values, units | self._records, self.bench.clock.now()
        )
        self._writer.flush()  # a committed point survives whatever happens to this process

    def _stop_if(self, level: int) -> None:
        if self.stop.level >= level:
            raise RunStopped(self.stop.reason)

    def _switch(self, source: Any, on: bool) -> None:
        _switch_parameter(source)(on)
        self.event("switch", instrument=source.name, on=on)

    def _switch_off(self, source: Any) -> Exception | None:
        try:
            self._switch(source, False)
        except Exception as error:  # every other source must still be switched off
            self.event("switch_off_failed", instrument=source.name, error=str(error))
            return error
        return None


def _switch_parameter(source: Any) -> Any:
    for name in _SWITCHES:
        if hasattr(source, name):
            return getattr(source, name)
    raise TypeError(f"{source.name} cannot be switched: it has none of {', '.join(_SWITCHES)}")
