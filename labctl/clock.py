"""The bench clock: what time it is on the bench, and how to wait there.

On a real bench this is wall time; on a twin it is the twin's own time, which moves as fast as it can
be computed. Whatever waits on the bench (dwell, settling, ramps) takes its clock from the bench and
never calls `time.sleep`. Wall time remains right for transport timeouts and for the user interface.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Bench time in seconds since an arbitrary origin."""

    def now(self) -> float:
        """The bench time in s."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of bench time pass; negative or zero durations return at once."""
        ...


class WallClock:
    """Bench time of a real bench: the computer's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)
