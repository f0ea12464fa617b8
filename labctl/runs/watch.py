"""Slow monitors and interlocks: what is read from time to time during a run, and what must hold.

A `Watch` is a value that is read every so often, a `Condition` says what it must be: within a range, not
changing too fast, fresh, a number. The `Watchman` reads what is due and says which conditions tripped and
which were released; what follows from that is the engine's affair. It has no thread and waits for nothing.
All times are bench time in s, except the limit of a read, which is wall time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from labctl.quantities import format_quantity

Action = Literal["suspend", "abort", "safe"]


@dataclass(frozen=True)
class Watch:
    """A value to read every `period_s` of bench time.

    read: returns the value in `unit`; may raise. stamp: when the instrument itself says when it measured,
    that moment; a reading whose stamp has not changed counts as missing. limit_s: wall time after which an
    answer is too late to be believed.
    """

    name: str
    unit: str
    period_s: float
    read: Callable[[], float]
    stamp: Callable[[], float] | None = None
    limit_s: float = 10.0


@dataclass(frozen=True)
class Condition:
    """What the value of the watch `watch` must be.

    low, high: its range, ends included. max_slope_per_s: largest change per s, up or down, over
    `slope_window_s`. stale_s: longest time without a fresh number. A value that is no number is never right.
    Once tripped it is released after `hold_s` of readings inside the range narrowed by `hysteresis`.
    Raises ValueError when no value could ever release it.
    """

    watch: str
    low: float = -math.inf
    high: float = math.inf
    max_slope_per_s: float = math.inf
    slope_window_s: float = 10.0
    stale_s: float = 30.0
    hysteresis: float = 0.0
    hold_s: float = 0.0
    action: Action = "suspend"

    def __post_init__(self) -> None:
        if self.low + self.hysteresis > self.high - self.hysteresis:
            raise ValueError(
                f"{self.watch}: no value lies within {self.low:g} .. {self.high:g} "
                f"narrowed by {self.hysteresis:g} on both sides"
            )


@dataclass(frozen=True)
class Reading:
    """One attempt to read a watch; `problem` says why there is no value (then NaN), "" if there is one."""

    name: str
    unit: str
    time_s: float
    value: float
    problem: str = ""


@dataclass(frozen=True)
class Trip:
    """A condition that does not hold: since when, at which value (NaN for none), and why in words."""

    condition: Condition
    time_s: float
    value: float
    reason: str


@dataclass(frozen=True)
class Findings:
    """What one look found; `releases` are the earlier trips that are over."""

    readings: list[Reading] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    releases: list[Trip] = field(default_factory=list)


_NOTHING = Findings()


class Watchman:
    """Reads watches when they are due and judges conditions; made for being asked often.

    wall: the wall clock in s, which judges whether a read was too slow.
    Raises ValueError for two watches of one name, or a condition on a watch that there is not.
    """

    def __init__(
        self,
        watches: Iterable[Watch],
        conditions: Iterable[Condition],
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = [_Reader(watch, wall) for watch in watches]
        units = {reader.watch.name: reader.watch.unit for reader in self._watches}
        if len(units) < len(self._watches):
            raise ValueError("two watches have the same name")
        self._interlocks: list[_Interlock] = []
        for condition in conditions:
            if condition.watch not in units:
                raise ValueError(f"a condition on {condition.watch!r}, which is not watched")
            self._interlocks.append(_Interlock(condition, units[condition.watch]))
        self._next_s = -math.inf

    @property
    def tripped(self) -> list[Trip]:
        """The trips that are not released yet."""
        return [lock.trip for lock in self._interlocks if lock.trip is not None]

    def look(self, now_s: float) -> Findings:
        """Read what is due at bench time `now_s` and judge every condition. Raises nothing."""
        if now_s < self._next_s:
            return _NOTHING
        found = Findings([reader.read(now_s) for reader in self._watches if reader.due_s <= now_s], [], [])
        new = {reading.name: reading for reading in found.readings}
        for lock in self._interlocks:
            before = lock.trip
            lock.judge(now_s, new.get(lock.condition.watch))
            if before is None and lock.trip is not None:
                found.trips.append(lock.trip)
            elif before is not None and lock.trip is None:
                found.releases.append(before)
        self._next_s = min(
            [reader.due_s for reader in self._watches] + [lock.deadline_s for lock in self._interlocks],
            default=math.inf,
        )
        return found


class _Reader:
    """Reads one watch; whatever goes wrong becomes a reading without a value."""

    def __init__(self, watch: Watch, wall: Callable[[], float]) -> None:
        self.watch = watch
        self.due_s = -math.inf
        self._wall = wall
        self._stamp = math.nan

    def read(self, now_s: float) -> Reading:
        self.due_s = now_s + self.watch.period_s
        value, problem = math.nan, ""
        try:
            value, problem = self._attempt()
        except Exception as error:  # a failing sensor must not end the run; its silence is judged
            problem = f"{type(error).__name__}: {error}"
        return Reading(self.watch.name, self.watch.unit, now_s, value, problem)

    def _attempt(self) -> tuple[float, str]:
        asked_s = self._wall()
        value = float(self.watch.read())
        took_s = self._wall() - asked_s
        if took_s > self.watch.limit_s:
            return math.nan, f"answered after {took_s:.3g} s, later than {self.watch.limit_s:g} s"
        if self.watch.stamp is None:
            return value, ""
        before, self._stamp = self._stamp, float(self.watch.stamp())
        return (math.nan, "has not measured anew") if self._stamp == before else (value, "")


class _Interlock:
    """One condition over time: its recent values, whether it has tripped, since when all is well again."""

    def __init__(self, condition: Condition, unit: str) -> None:
        self.condition = condition
        self.trip: Trip | None = None
        self._unit = unit
        self._recent: deque[tuple[float, float]] = deque()
        self._fresh_s: float | None = None
        self._well_since_s: float | None = None
        self._silence = ""

    @property
    def deadline_s(self) -> float:
        """When it becomes stale if nothing is read until then; never, once it has tripped."""
        if self.trip is not None or self._fresh_s is None:
            return math.inf
        return self._fresh_s + self.condition.stale_s

    def judge(self, now_s: float, reading: Reading | None) -> None:
        """Trip or release, given what was read just now, or None."""
        if self._fresh_s is None:
            self._fresh_s = now_s  # the patience with a silent sensor begins with the first look
        if reading is not None:
            self._remember(reading)
        complaint = self._complaint(now_s, reading)
        if self.trip is None and complaint:
            value = reading.value if reading is not None else math.nan
            self.trip = Trip(self.condition, now_s, value, f"{self.condition.watch} {complaint}")
            self._well_since_s = None
        elif self.trip is not None and reading is not None:
            self._consider_release(reading, complaint)

    def _remember(self, reading: Reading) -> None:
        self._silence = reading.problem
        if not math.isfinite(reading.value):
            return
        self._fresh_s = reading.time_s
        self._recent.append((reading.time_s, reading.value))
        begin_s = reading.time_s - self.condition.slope_window_s
        while len(self._recent) > 2 and self._recent[1][0] <= begin_s:
            self._recent.popleft()

    def _complaint(self, now_s: float, reading: Reading | None) -> str:
        condition = self.condition
        silent_s = now_s - (now_s if self._fresh_s is None else self._fresh_s)
        if reading is not None and not reading.problem:
            if not math.isfinite(reading.value):
                return f"is {reading.value}, which is no number"
            if not condition.low <= reading.value <= condition.high:
                return f"is {self._text(reading.value)}, outside {self._range()}"
            if abs(slope := self._slope_per_s()) > condition.max_slope_per_s:
                limit = self._text(condition.max_slope_per_s)
                return f"changes by {self._text(slope)} per s, faster than {limit} per s"
        if silent_s > condition.stale_s:
            return f"was not read for {silent_s:.3g} s" + (f" ({self._silence})" if self._silence else "")
        return ""

    def _consider_release(self, reading: Reading, complaint: str) -> None:
        condition, margin = self.condition, self.condition.hysteresis
        inside = condition.low + margin <= reading.value <= condition.high - margin
        if complaint or not inside:  # a missing value is NaN, which is nowhere inside
            self._well_since_s = None
            return
        if self._well_since_s is None:
            self._well_since_s = reading.time_s
        if reading.time_s - self._well_since_s >= condition.hold_s:
            self.trip = None

    def _slope_per_s(self) -> float:
        """Slope of the straight line through the recent values; 0 until they span half the window."""
        begin_s, span_s = self._recent[0][0], self._recent[-1][0] - self._recent[0][0]
        if span_s <= 0 or span_s < self.condition.slope_window_s / 2:
            return 0.0
        n = len(self._recent)
        mean_t = sum(t - begin_s for t, _ in self._recent) / n
        mean_v = sum(v for _, v in self._recent) / n
        above = sum((t - begin_s - mean_t) * (v - mean_v) for t, v in self._recent)
        return above / sum((t - begin_s - mean_t) ** 2 for t, _ in self._recent)

    def _range(self) -> str:
        low, high = self.condition.low, self.condition.high
        if math.isinf(low):
            return f"the range up to {self._text(high)}"
        if math.isinf(high):
            return f"the range from {self._text(low)}"
        return f"{self._text(low)} .. {self._text(high)}"

    def _text(self, value: float) -> str:
        return format_quantity(value, self._unit)
