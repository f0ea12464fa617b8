"""Who watches a run: the engine tells, and never waits for the viewer; and how long it will still take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

WAITING = frozenset({"paused", "suspended"})
"""States in which a run makes no progress, and that say nothing of its pace."""

_log = logging.getLogger(__name__)
_MEMORY = 1 / 50  # least weight of the newest point: a change is learnt within some fifty points
_OUTLIER = 4.0  # a point that took more than this many times the usual must be followed by another
_PASSED_OVER_S = 1e-3  # a point that took less and acquired nothing was done before the run was resumed


class Progress(Protocol):
    """What the engine tells while it runs."""

    def start(self, title: str, total_s: float) -> None:
        """A run begins, or goes on, that will acquire for `total_s` of bench time from now."""
        ...

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        """`seconds` of bench time were acquired; `rates` are the present count rates in 1/s."""
        ...

    def points(self, done: int, total: int) -> None:
        """So many points of the present sweep are behind us; `done` is 0 when a sweep begins."""
        ...

    def state(self, text: str) -> None:
        """The state of the run from now on."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...

    def finish(self) -> None:
        """The run is over."""
        ...


class Silent:
    """Nobody watches."""

    def start(self, title: str, total_s: float) -> None:
        pass

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        pass

    def points(self, done: int, total: int) -> None:
        pass

    def state(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


class Estimator:
    """Learns how long a run still takes, in wall time.

    What is left is some acquisition and some points. Acquisition costs wall time in proportion, less on a
    twin than on a bench; each point costs something on top (moves, settling, set-up). Both are learnt from
    the points so far, the last ones counting most. Before there is anything to learn from, acquisition is
    taken to cost its own time and points nothing.

    total_s: bench time that the run will acquire; for one that goes on, what it still will.
    wall: the wall clock in s.
    """

    def __init__(self, total_s: float, wall: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._left_s = total_s
        self._block_wall = _Habit()
        self._block_acquired = _Habit()
        self._waited_s = 0.0
        self._waiting_since_s: float | None = None
        self._advanced_s: float | None = None  # when the last block came, if nothing else was done since
        self._begin_sweep(0, 0)

    def advance(self, seconds: float) -> None:
        """So much bench time was acquired."""
        now_s = self._now_s()
        if self._advanced_s is not None and seconds > 0:
            self._block_wall.learn(now_s - self._advanced_s)
            self._block_acquired.learn(seconds)
        self._advanced_s = now_s
        self._left_s = max(self._left_s - seconds, 0.0)
        self._acquired_s += seconds

    def points(self, done: int, total: int) -> None:
        """So many points of the present sweep are done."""
        finished = done - self._done
        if total != self._total or finished < 0 or done == 0:
            self._begin_sweep(done, total)
        elif finished > 0:
            wall_s = self._now_s() - self._border_s
            if wall_s > _PASSED_OVER_S * finished or self._acquired_s > 0:
                self._point_wall.learn(wall_s / finished)
                self._point_acquired.learn(self._acquired_s / finished)
            self._begin_point(done)

    def wait(self) -> None:
        """From now on the run waits; this time teaches nothing."""
        if self._waiting_since_s is None:
            self._waiting_since_s = self._wall()
        self._advanced_s = None

    def go_on(self) -> None:
        """The run goes on."""
        if self._waiting_since_s is not None:
            self._waited_s += self._wall() - self._waiting_since_s
            self._waiting_since_s = None

    def eta_s(self) -> float:
        """Wall time in s until all is acquired, if nothing holds the run up."""
        pace, points_left = self._pace(), self._total - self._done
        if not self._point_wall.known or points_left <= 0:
            return self._left_s * pace
        usual_s, acquired_s = self._point_wall.value, self._point_acquired.value
        spent_s = min(self._now_s() - self._border_s, usual_s)
        here_s = points_left * usual_s - spent_s
        # the acquired time of the present point has left _left_s already
        elsewhere_s = self._left_s - (points_left * acquired_s - min(self._acquired_s, acquired_s))
        return here_s + max(elsewhere_s, 0.0) * pace

    def _begin_sweep(self, done: int, total: int) -> None:
        self._total = total
        self._point_wall = _Habit()
        self._point_acquired = _Habit()
        self._begin_point(done)

    def _begin_point(self, done: int) -> None:
        self._done = done
        self._border_s = self._now_s()
        self._acquired_s = 0.0
        self._advanced_s = None

    def _pace(self) -> float:
        """Wall time per acquired second."""
        return self._block_wall.value / self._block_acquired.value if self._block_wall.known else 1.0

    def _now_s(self) -> float:
        """The wall clock without the time that was spent waiting."""
        until_s = self._wall() if self._waiting_since_s is None else self._waiting_since_s
        return until_s - self._waited_s


class _Habit:
    """A running mean that forgets slowly and is not misled by a single odd value."""

    def __init__(self) -> None:
        self.value = 0.0
        self._n = 0
        self._was_odd = False

    @property
    def known(self) -> bool:
        return self._n > 0

    def learn(self, value: float) -> None:
        odd = self._n > 2 and value > _OUTLIER * self.value
        if odd and not self._was_odd:
            value = _OUTLIER * self.value
        self._was_odd = odd
        self._n += 1
        self.value += max(1 / self._n, _MEMORY) * (value - self.value)


class Tracker:
    """A viewer that keeps what the engine told, for whoever asks, and tells the next one.

    viewer: is told everything in turn, until it fails for the first time: a terminal that was closed must not
    end a run, nor keep it from its record. wall: the wall clock in s.
    """

    def __init__(self, viewer: Progress | None = None, wall: Callable[[], float] = time.monotonic) -> None:
        self._viewer: Progress = viewer or Silent()
        self._wall = wall
        self._estimator = Estimator(0.0, wall)
        self.rates: dict[str, float] = {}
        self.done = 0
        self.total = 0
        self.state_text = ""

    def start(self, title: str, total_s: float) -> None:
        self._estimator = Estimator(total_s, self._wall)
        self._tell("start", title, total_s)

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        self._estimator.advance(seconds)
        self.rates = rates
        self._tell("advance", seconds, rates)

    def points(self, done: int, total: int) -> None:
        self._estimator.points(done, total)
        self.done, self.total = done, total
        self._tell("points", done, total)

    def state(self, text: str) -> None:
        if text in WAITING:
            self._estimator.wait()
        else:
            self._estimator.go_on()
        self.state_text = text
        self._tell("state", text)

    def say(self, text: str) -> None:
        self._tell("say", text)

    def finish(self) -> None:
        self._tell("finish")

    def eta_s(self) -> float:
        """Wall time in s until all is acquired, if nothing holds the run up."""
        return self._estimator.eta_s()

    def _tell(self, what: str, *arguments: Any) -> None:
        try:
            getattr(self._viewer, what)(*arguments)
        except Exception as error:
            self._viewer = Silent()
            _log.warning("the run is no longer shown: %s: %s", type(error).__name__, error)

    def details(self) -> dict[str, Any]:
        """What `labctl status` shows of a run: points, time left in s, count rates in 1/s."""
        points = {"point": f"{self.done}/{self.total}"} if self.total else {}
        return {**points, "left_s": round(self.eta_s(), 1), "rates": self.rates}


def time_text(seconds: float) -> str:
    """A duration for people: `0:12:30`."""
    return str(timedelta(seconds=round(seconds)))
