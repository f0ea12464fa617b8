"""From the world's tags to what a tagger with given settings sends to its computer.

A tap is one running measurement. It takes the world's tags as they come, lets the settings of the inputs act
on them, and keeps them until the client asks. Facts of the tagger that are not confirmed stand in `ASSUMED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.taggers.sim.swabian_wire import Arrays

ASSUMED: dict[str, Any] = {
    "model": "Time Tagger Ultra",
    "firmware": "TT-Ultra, FW 3, TS 2024-01-01 00:00:00, OK 1.30",
    "pcb": "2.3",
    "inputs": tuple(range(1, 9)),
    "connected_channels": (1, 2, 3, 4, 5, -5, 6),  # edges that the bench's cables can bring
    "start_level_v": 0.5,
    "level_range_v": (-2.5, 2.5),
    "pulse_amplitude_v": 2.0,  # of every input: no edge at a level outside (0, amplitude]
    "least_dead_time_ps": 2_100,
    "greatest_dead_time_ps": 2_147_000_000,
    "test_signal_period_ps": 1_250_000,
    "overflow_s": 1e-3,
}
_MAX_MISSED = 65_535  # one event counts at most this many lost tags
_OVERFLOW_BEGIN, _OVERFLOW_END, _MISSED_EVENTS = 2, 3, 4
GapRecord = tuple[int, int, dict[int, int]]


class TakenTags(Protocol):
    """Tags of the world in `[begin_ps, end_ps)`; `gaps` lists (begin_ps, end_ps, missed by channel)."""

    @property
    def times_ps(self) -> NDArray[np.int64]: ...

    @property
    def channels(self) -> NDArray[np.int32]: ...

    @property
    def begin_ps(self) -> int: ...

    @property
    def end_ps(self) -> int: ...

    @property
    def gaps(self) -> Sequence[GapRecord]: ...


class Subscription(Protocol):
    """A reader of the world's tags."""

    def take(self) -> TakenTags: ...

    def close(self) -> None: ...


@dataclass
class Settings:
    """All modes of the tagger, as after power-up. Channels are edges (negative: falling)."""

    level_v: dict[int, float] = field(default_factory=dict)
    test_signal: set[int] = field(default_factory=set)
    delay_ps: dict[int, int] = field(default_factory=dict)
    dead_time_ps: dict[int, int] = field(default_factory=dict)
    divider: dict[int, int] = field(default_factory=dict)
    trigger: tuple[int, ...] = ()
    filtered: tuple[int, ...] = ()

    def level(self, channel: int) -> float:
        return self.level_v.get(abs(channel), ASSUMED["start_level_v"])

    def sees_pulses(self, channel: int) -> bool:
        """Whether the trigger level lies within the pulses."""
        return 0.0 < self.level(channel) <= ASSUMED["pulse_amplitude_v"]

    def silent(self, channels: Iterable[int]) -> list[int]:
        """Which of `channels` get no tags from their cables."""
        starved = self.filtered if self.trigger and not any(map(self.sees_pulses, self.trigger)) else ()
        return [c for c in channels if not self.sees_pulses(c) or c in starved or abs(c) in self.test_signal]


class Tap:
    """The tags of one running measurement, until the client asks for them."""

    def __init__(self, subscription: Subscription, channels: list[int], duration_ps: int | None) -> None:
        self.begin_ps = self.end_ps = subscription.take().end_ps
        self.until_ps = None if duration_ps is None else self.begin_ps + duration_ps
        self.subscription = subscription
        self._channels = channels
        self._seen: dict[int, int] = {}
        self._clear()

    @property
    def finished(self) -> bool:
        return self.until_ps is not None and self.end_ps >= self.until_ps

    def collect(self, settings: Settings) -> list[GapRecord]:
        """Take the world's tags as the settings let them pass; returns the new gaps."""
        taken = self.subscription.take()
        end_ps = taken.end_ps if self.until_ps is None else min(taken.end_ps, self.until_ps)
        times, channels = taken.times_ps, taken.channels
        if end_ps < taken.end_ps:
            keep = int(np.searchsorted(times, end_ps))
            times, channels = times[:keep], channels[:keep]
        times, channels = self._without_silent(times, channels, settings)
        times, channels = self._with_test_signal(times, channels, end_ps, settings)
        times, channels = self._divided(times, channels, settings)
        gaps = [(begin, min(end, end_ps), missed) for begin, end, missed in taken.gaps if begin < end_ps]
        self.end_ps = max(self.end_ps, end_ps)
        self._times.append(times)
        self._numbers.append(channels)
        self._gaps += gaps
        return gaps

    def hand_out(self) -> tuple[dict[str, Any], Arrays]:
        """Everything since the last call."""
        header = {"begin_ps": self.begin_ps, "end_ps": self.end_ps, "finished": self.finished}
        arrays: Arrays = {"times": np.concatenate(self._times), "channels": np.concatenate(self._numbers)}
        if self._gaps:
            arrays = _with_overflows(arrays, self._gaps)
        self.begin_ps = self.end_ps
        self._clear()
        return header, arrays

    def _clear(self) -> None:
        self._times: list[NDArray[np.int64]] = []
        self._numbers: list[NDArray[np.int32]] = []
        self._gaps: list[GapRecord] = []

    def _without_silent(
        self, times: NDArray[np.int64], channels: NDArray[np.int32], settings: Settings
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        silent = settings.silent(self._channels)
        if not silent:
            return times, channels
        heard = ~np.isin(channels, silent)
        return times[heard], channels[heard]

    def _with_test_signal(
        self, times: NDArray[np.int64], channels: NDArray[np.int32], end_ps: int, settings: Settings
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        period_ps = ASSUMED["test_signal_period_ps"]
        for channel in self._channels:
            if abs(channel) in settings.test_signal:
                first, last = -(-self.end_ps // period_ps), -(-end_ps // period_ps)
                edges = np.arange(first, last, dtype=np.int64) * period_ps
                times = np.concatenate((times, edges))
                channels = np.concatenate((channels, np.full(edges.size, channel, np.int32)))
                order = np.argsort(times, kind="stable")
                times, channels = times[order], channels[order]
        return times, channels

    def _divided(
        self, times: NDArray[np.int64], channels: NDArray[np.int32], settings: Settings
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        for channel in self._channels:
            divider = settings.divider.get(channel, 1)
            if divider > 1:
                found = np.flatnonzero(channels == channel)
                number = self._seen.get(channel, 0) + np.arange(1, found.size + 1)
                self._seen[channel] = self._seen.get(channel, 0) + found.size
                dropped = found[number % divider != 0]
                times, channels = np.delete(times, dropped), np.delete(channels, dropped)
        return times, channels


def _with_overflows(arrays: Arrays, gaps: list[GapRecord]) -> Arrays:
    """The tags with the events that tell of `gaps` in their places."""
    events: list[tuple[int, int, int, int]] = []
    for begin_ps, end_ps, missed in gaps:
        events.append((begin_ps, 0, 0, _OVERFLOW_BEGIN))
        for channel, count in missed.items():
            whole, rest = divmod(count, _MAX_MISSED)
            events += [(end_ps, channel, part, _MISSED_EVENTS) for part in [_MAX_MISSED] * whole + [rest]]
        events.append((end_ps, 0, 0, _OVERFLOW_END))
    count = arrays["times"].size
    columns = np.array(events, np.int64).T
    times = np.concatenate((columns[0], arrays["times"]))
    order = np.argsort(times, kind="stable")  # at equal times the event comes before the tag
    return {
        "times": times[order],
        "channels": np.concatenate((columns[1].astype(np.int32), arrays["channels"]))[order],
        "missed": np.concatenate((columns[2].astype(np.uint16), np.zeros(count, np.uint16)))[order],
        "types": np.concatenate((columns[3].astype(np.uint8), np.zeros(count, np.uint8)))[order],
    }
