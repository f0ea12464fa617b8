"""What an experiment uses: switch, sweep, acquire, wait and record, and be stopped, paused and resumed.

A point is committed when its block ends without an exception. The engine looks up at the borders of points
and at least every 100 ms of wall time inside waits, never inside an instrument transaction; there it obeys
requests, watches what is to be watched, and tells the guardian that it lives. Records go one way: engine ->
store and progress; nobody is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Any

from labctl.bench.bench import Bench
from labctl.bench.heart import Kind
from labctl.errors import LabctlError
from labctl.runs.acquiring import Acquisition, Taking
from labctl.runs.interrupts import AFTER_POINT
from labctl.runs.light import Light
from labctl.runs.past import TIME_BASE, Past, Place
from labctl.runs.settle import Steady, ramp_steps
from labctl.runs.supervision import Supervisor
from labctl.runs.timebase import TimeBase
from labctl.store import RunWriter
from labctl.sweeps import Axis, Scan, axis, visits
from labctl.timetags import Accumulator, TagBlock

MAX_ATTEMPTS = 5


class PointSpoilt(LabctlError):
    """A point was spoilt again and again."""


@dataclass
class Point:
    """One point of a sweep while it is being taken: its axis values, and what is recorded for it."""

    sweep: str
    index: int
    values: dict[str, float]
    reference: bool = False
    attempt: int = 0
    recorded: dict[str, float | int | str | bool] = field(default_factory=dict)
    spoilt: str = ""

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

    records: the columns that the experiment may record, with their units. seed: of everything random that the
    run decides (the order of points). slice_s: bench time between two looks at requests while tags are
    taken. past: what an interrupted run had reached. extra_live_s: live time to add to an acquisition that is
    complete, by label or sweep.
    truth_by_acquisition: on a twin, the hidden truth when each acquisition began; for the file only.
    """

    def __init__(
        self,
        bench: Bench,
        writer: RunWriter,
        records: Mapping[str, str],
        supervisor: Supervisor,
        *,
        seed: int = 0,
        slice_s: float = 0.05,
        past: Past | None = None,
        extra_live_s: Mapping[str, float] | None = None,
    ) -> None:
        self.bench = bench
        self.seed = seed
        self.supervisor = supervisor
        self.light: Light = supervisor.light
        self._past = past or Past()
        self.truth_by_acquisition: dict[str, Any] = dict(self._past.truth)
        self._writer = writer
        self._records = dict(records)
        self._slice_s = slice_s
        self._extra_live_s = dict(extra_live_s or {})
        self._point: Point | None = None
        self._parts: dict[tuple[str, int, int], int] = {}
        self._time_bases: dict[str, TimeBase] = {}
        self._warm: set[type] = set()
        self._numbers: list[int] = []
        self._rows: dict[str, list[dict[str, Any]]] = {}

    # -- light ---------------------------------------------------------------------------------------------

    def emission(self, *sources: Any, keep_light_on_pause: bool = False) -> AbstractContextManager[None]:
        """Switch lasers, pulsed sources and shutters on, and off again in reverse order on leaving.

        Each is switched off even if another refuses or hangs; a refusal is recorded and raised at the end.
        keep_light_on_pause: a pause leaves these on, which is recorded.
        """
        return self.light.scope(*sources, keep_light_on_pause=keep_light_on_pause)

    def switch(self, source: Any, on: bool) -> None:
        """Switch one source on or off in the middle of a run; it must be inside `emission`."""
        self.light.switch(source, on)

    # -- points --------------------------------------------------------------------------------------------

    def sweep(
        self,
        name: str,
        scan: Scan | None = None,
        *,
        shuffle: bool = False,
        reference_every: int = 0,
        reference: float | Mapping[str, float] | None = None,
        **axes: Axis,
    ) -> Iterator[Point]:
        """Visit the points of a scan, or of one axis; each is committed when its block ends without an
        exception.

        reference_every: take a reference point, at the axis value (or values) `reference`, before every so
        many points and at the end; it has an index behind those of the scan. A point that was spoilt (the
        detector guard tripped) is not committed and visited again. Points that a resumed run had committed
        already are passed over. Raises PointSpoilt, RunStopped.
        """
        if scan is None:
            ((axis_name, values),) = axes.items()
            scan = axis(axis_name, values)
        if reference_every and reference is None:
            raise ValueError("reference_every needs the axis value of the reference")
        units = {**scan.units, **self._records}
        order = visits(len(scan), shuffle=shuffle, seed=self.seed, reference_every=reference_every)
        references = 0
        for done, visit in enumerate(order):
            self.supervisor.points(done, len(order))
            if visit.reference:
                index, point = len(scan) + references, _reference_values(scan, reference)
                references += 1
            else:
                index, point = visit.index, scan[visit.index]
            yield from self._visit(name, index, point, visit.reference, units)
        self.supervisor.points(len(order), len(order))

    def adaptive(
        self, name: str, propose: Callable[[list[dict[str, Any]]], Mapping[str, float] | None], **units: str
    ) -> Iterator[Point]:
        """Visit points that `propose` chooses from the rows committed so far, until it returns None.

        Every proposal is journalled, so that a resumed run follows the same way. units: of the axes, by name.
        """
        for index in range(2**31):
            rows = [dict(row) for row in self._rows.get(name, [])]
            values = self.once(f"{name}/{index}", lambda rows=rows: propose(rows))  # type: ignore[misc]
            if values is None:
                return
            yield from self._visit(name, index, dict(values), False, {**units, **self._records})

    def _visit(
        self, name: str, index: int, values: dict[str, float], reference: bool, units: dict[str, str]
    ) -> Iterator[Point]:
        """The point until an attempt at it can be committed; nothing when it has been committed before."""
        if (name, index) in self._past.rows:
            self._rows.setdefault(name, []).append(self._past.rows[name, index])
            return
        first = self._past.attempts.get((name, index), 0)
        for place, item in self._past.acquisitions.items():
            if place[:2] == (name, index) and place[2] < first:
                self._writer.discard(item.id, "left from a spoilt attempt")
        for attempt in range(first, first + MAX_ATTEMPTS):
            point = Point(name, index, values, reference, attempt)
            self._point = point
            self._numbers = []
            self.supervisor.look(border=True)
            yield point
            self._point = None
            if not point.spoilt:
                self._commit(point, units)
                self.supervisor.stop_if(AFTER_POINT)
                return
            for number in self._numbers:
                self._writer.discard(number, point.spoilt)
            self.event("point_spoilt", sweep=name, index=index, attempt=attempt, reason=point.spoilt)
        raise PointSpoilt(
            f"point {index} of {name} was spoilt {MAX_ATTEMPTS} times, the last time because {point.spoilt}; "
            "lower the light or the limit, then `labctl resume`"
        )

    def _commit(self, point: Point, units: Mapping[str, str]) -> None:
        unknown = point.recorded.keys() - self._records.keys()
        if unknown:
            raise KeyError(f"{', '.join(sorted(unknown))} is not declared in the experiment's `records`")
        values = point.values | {"reference": point.reference} | point.recorded
        self._writer.row(point.sweep, point.index, point.attempt, values, units, self._now_s())
        self._writer.flush()  # a committed point survives whatever happens to this process
        self._rows.setdefault(point.sweep, []).append(values)

    # -- counting ------------------------------------------------------------------------------------------

    def acquire(
        self, tagger: Any, dwell_s: float, *accumulators: Accumulator, channels: list[int], label: str = ""
    ) -> Acquisition:
        """Take tags of `channels` for `dwell_s`; they flow into the accumulators and into the store.

        label: name in the file of an acquisition outside a sweep. When the run is paused or suspended on the
        way, the block in hand is dropped and taken again after it. When the detector guard trips, the
        acquisition ends early and the point is spoilt. A resumed run replays what had been recorded of this
        acquisition. Raises RunStopped and the tagger's errors.
        """
        place = self._next_place(label)
        dwell_ps = round((dwell_s + self._extra_live_s.get(place[0], 0.0)) * 1e12)
        taking = self._begin(place, dwell_ps, channels, accumulators)
        while taking.remaining_s > 0 and not self._spoilt():
            self._stream(tagger, taking)
        self._numbers.append(taking.number)
        if not self._spoilt() and not self._is_complete(place, taking):
            self._writer.end_acquisition(taking.number, taking.live_ps)
        return taking.finished()

    def _begin(
        self, place: Place, dwell_ps: int, channels: list[int], accumulators: tuple[Accumulator, ...]
    ) -> Taking:
        recorded = self._past.acquisitions.get(place)
        if recorded is not None:
            return self._replayed(recorded.id, place, dwell_ps, channels, accumulators)
        names = {channel: str(channel) for channel in channels}
        sweep, index, attempt, part = place
        number = self._writer.begin_acquisition(names, sweep, index, self._now_s(), attempt, part)
        if self.bench.twin is not None:
            self.truth_by_acquisition[str(number)] = self.bench.twin.client.truth()["parameters"]["derived"]
        return Taking(number, dwell_ps, channels, accumulators)

    def _replayed(
        self,
        number: int,
        place: Place,
        dwell_ps: int,
        channels: list[int],
        accumulators: tuple[Accumulator, ...],
    ) -> Taking:
        taking = Taking(number, dwell_ps, channels, accumulators)
        with self.supervisor.heart.promise("replaying", kind=Kind.COMPILE):
            for block in self._past.blocks(self._past.acquisitions[place]):
                taking.accept(block)
        self.event("replayed", acquisition=number, live_time_s=taking.live_ps * 1e-12)
        return taking

    def _is_complete(self, place: Place, taking: Taking) -> bool:
        recorded = self._past.acquisitions.get(place)
        return (
            recorded is not None
            and recorded.id in self._past.complete
            and recorded.live_time_ps == taking.live_ps
        )

    def _stream(self, tagger: Any, taking: Taking) -> None:
        """Take blocks until the acquisition is complete, the light is taken away, or the point is spoilt."""
        heart = self.supervisor.heart
        stream = tagger.stream(list(taking.channels), taking.remaining_s, self._slice_s)
        with closing(stream):
            while taking.remaining_s > 0:
                with heart.promise("counting", kind=Kind.SLICE if taking.covered_ps else Kind.COMPILE):
                    block = next(stream, None)
                if block is None or self.supervisor.look() or self._guard_trips(block):
                    return
                self._accept(taking, self._in_run_time(tagger, block))

    def _in_run_time(self, tagger: Any, block: TagBlock) -> TagBlock:
        """The block in the one time of the run; how that lies to bench time is recorded."""
        past, now_s = self._past, self._now_s()
        base = self._time_bases.setdefault(tagger.name, TimeBase(past.end_ps, past.epoch, past.bench_time_s))
        is_new = base.is_new(block)
        moved = base.align(block, now_s)
        if is_new:
            self.event(TIME_BASE, tagger=tagger.name, epoch=block.epoch, zero_s=now_s - moved.end_ps * 1e-12)
        return moved

    def _accept(self, taking: Taking, block: TagBlock) -> None:
        kinds = {type(accumulator) for accumulator in taking.accumulators}
        self._writer.tags(taking.number, block)
        if kinds <= self._warm:
            rates = taking.accept(block)
        else:  # the first block compiles kernels
            with self.supervisor.heart.promise("compiling", kind=Kind.COMPILE):
                rates = taking.accept(block)
            self._warm |= kinds
        self.supervisor.acquired(block.duration_ps * 1e-12, rates)

    def _guard_trips(self, block: TagBlock) -> bool:
        """The detector guard: too many counts close the shutters at once, and spoil the point."""
        reason = self.supervisor.guard(block)
        if reason and self._point is not None:
            self._point.spoilt = reason
        return bool(reason)

    def _spoilt(self) -> str:
        return self._point.spoilt if self._point is not None else ""

    def _next_place(self, label: str) -> Place:
        if label or self._point is None:
            point = (label or "single", 0, 0)
        else:
            point = (self._point.sweep, self._point.index, self._point.attempt)
        part = self._parts.get(point, 0)
        self._parts[point] = part + 1
        return (*point, part)

    # -- waiting -------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let `seconds` of bench time pass; stop and pause requests are obeyed on the way."""
        self.supervisor.wait(seconds)

    def settle(
        self,
        read: Callable[[], float],
        target: float,
        tolerance: float,
        *,
        hold_s: float = 0.0,
        deadline_s: float,
        poll_s: float = 0.1,
        what: str = "",
    ) -> float:
        """Wait until `read()` has stayed within `tolerance` of `target` for `hold_s`; the last reading.

        Raises NotReady after `deadline_s` of bench time, saying what was read last.
        """
        steady = Steady(target, tolerance, hold_s, deadline_s, what or "the reading")
        while not steady.reached(read(), self._now_s()):
            if self.supervisor.wait(poll_s):
                steady.restart()
        return steady.last

    def ramp(self, parameter: Any, target: float, rate: float, *, period_s: float = 0.1) -> None:
        """Set `parameter` from where it is to `target` in steps, at `rate` per s of bench time."""
        for value in ramp_steps(float(parameter()), target, rate, period_s):
            parameter(value)
            if value != target:
                self.wait(period_s)

    def busy(self, what: str, limit_s: float) -> AbstractContextManager[None]:
        """Declare a long computation of the experiment's own, which takes at most `limit_s` of wall time."""
        return self.supervisor.heart.promise(what, limit_s)

    # -- records -------------------------------------------------------------------------------------------

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        """`compute()`, or in a resumed run what it gave before; the value must be plain (JSON)."""
        if key not in self._past.memos:
            self._past.memos[key] = compute()
            self._writer.memo(key, self._past.memos[key])
            self._writer.flush()
        return self._past.memos[key]

    def rows(self, sweep: str) -> list[dict[str, Any]]:
        """The rows of a sweep committed so far, in the order taken."""
        return [dict(row) for row in self._rows.get(sweep, [])]

    def event(self, kind: str, **fields: Any) -> None:
        """Put a remark into the record."""
        self.supervisor.event(kind, **fields)

    def note(self, text: str) -> None:
        """A note for the reader of the file."""
        self.event("note", text=text)

    def _now_s(self) -> float:
        return self.supervisor.now_s()


def _reference_values(scan: Scan, reference: float | Mapping[str, float] | None) -> dict[str, float]:
    if isinstance(reference, Mapping):
        return {name: float(reference[name]) for name in scan.names}
    (name,) = scan.names
    return {name: float(reference or 0.0)}
