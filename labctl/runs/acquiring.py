"""One acquisition while it is being taken: what was covered, counted and recorded so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from labctl.timetags import Accumulator, TagBlock


@dataclass(frozen=True)
class Acquisition:
    """A finished acquisition: its number in the file, its live time, and counts by channel."""

    number: int
    live_time_s: float
    counts: dict[int, int]

    def rate(self, *channels: int) -> float:
        """Sum of the count rates of `channels` in 1/s; NaN when there was no live time."""
        total = sum(self.counts.get(c, 0) for c in channels)
        return total / self.live_time_s if self.live_time_s > 0 else math.nan

    def rate_error(self, *channels: int) -> float:
        """Poisson standard error of `rate` in 1/s; NaN when there was no live time."""
        total = sum(self.counts.get(c, 0) for c in channels)
        return math.sqrt(total) / self.live_time_s if self.live_time_s > 0 else math.nan


@dataclass
class Taking:
    """The sums of an acquisition over the blocks accepted so far; `covered_ps` includes the gaps in them."""

    number: int
    dwell_ps: int
    channels: Sequence[int]
    accumulators: Sequence[Accumulator] = ()
    covered_ps: int = 0
    live_ps: int = 0
    counts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = dict.fromkeys(self.channels, 0)

    @property
    def remaining_s(self) -> float:
        """Tagger time still to be taken."""
        return max(self.dwell_ps - self.covered_ps, 0) * 1e-12

    def accept(self, block: TagBlock) -> dict[str, float]:
        """Feed a block to the accumulators and the sums; the count rates in it, by channel."""
        for accumulator in self.accumulators:
            accumulator.update(block)
        self.covered_ps += block.duration_ps
        self.live_ps += block.live_time_ps
        rates = {}
        for channel in self.counts:
            n = int(np.count_nonzero(block.channels == channel))
            self.counts[channel] += n
            if block.live_time_ps > 0:
                rates[str(channel)] = n / (block.live_time_ps * 1e-12)
        return rates

    def finished(self) -> Acquisition:
        """The result."""
        return Acquisition(self.number, self.live_ps * 1e-12, self.counts)
