"""Waiting until a value is steady, and moving one slowly: pure logic that the engine walks through.

Times are bench time in s. Nothing here waits; the engine does, between the steps, so that it can look up,
pause and stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from labctl.instruments.errors import NotReady


class Steady:
    """Judges readings until they have stayed near a target for long enough.

    target, tolerance: in the unit of the readings; the ends belong to the range. hold_s: how long every
    reading has to lie within it, from the first such reading on. deadline_s: how long all may take from
    the first reading on. what: what is waited for, for the error.
    """

    def __init__(self, target: float, tolerance: float, hold_s: float, deadline_s: float, what: str) -> None:
        self.last = math.nan
        """The reading judged last."""
        self._target = target
        self._tolerance = tolerance
        self._hold_s = hold_s
        self._deadline_s = deadline_s
        self._what = what
        self._begin_s: float | None = None
        self._inside_since_s: float | None = None

    def reached(self, value: float, now_s: float) -> bool:
        """Judge a reading made at `now_s`. Raises NotReady when it is not steady by the deadline."""
        self.last = value
        if self._begin_s is None:
            self._begin_s = now_s
        if not abs(value - self._target) <= self._tolerance:  # a NaN is nowhere near
            self._inside_since_s = None
        elif self._inside_since_s is None:
            self._inside_since_s = now_s
        if self._inside_since_s is not None and now_s - self._inside_since_s >= self._hold_s:
            return True
        if now_s - self._begin_s >= self._deadline_s:
            raise NotReady(
                f"{self._what} is {value:.6g} after {self._deadline_s:g} s, and was not within "
                f"{self._tolerance:.3g} of {self._target:.6g} for {self._hold_s:g} s",
                hint="wait longer, allow more, or look why it does not get there",
            )
        return False

    def restart(self) -> None:
        """Begin anew with the next reading: the run was held up meanwhile, and the deadline with it."""
        self._begin_s = self._inside_since_s = None


def ramp_steps(start: float, target: float, rate: float, period_s: float) -> Iterator[float]:
    """The values to set, one each `period_s`, that lead from `start` to `target` at `rate` per s or less.

    `start` itself is left out, the last value is `target` exactly, and all steps are equal. Raises
    ValueError, before the first step, for a rate or period that is not positive or an end that is no number.
    """
    if not (rate > 0 and period_s > 0):
        raise ValueError(f"a ramp needs a positive rate and period, not {rate:g} per s and {period_s:g} s")
    if not (math.isfinite(start) and math.isfinite(target)):
        raise ValueError(f"a ramp cannot lead from {start:g} to {target:g}")
    n = max(math.ceil(abs(target - start) / (rate * period_s) - 1e-9), 1)
    return (target if step == n else start + (target - start) * step / n for step in range(1, n + 1))
