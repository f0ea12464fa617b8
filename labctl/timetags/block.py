"""A block of time tags: the unit in which tags travel from a tagger to accumulators and to disk.

A block says more than its tags do: `[begin_ps, end_ps)` is a watermark, so that time passes for a
consumer even when no photon arrives, and `gaps` are the stretches in which tags were lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Gap:
    """An interval `[begin_ps, end_ps)` in which the tagger lost tags; `missed` counts them by channel."""

    begin_ps: int
    end_ps: int
    missed: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TagBlock:
    """Tags of one stretch of tagger time.

    times_ps: int64[n], ascending (ties allowed), all in `[begin_ps, end_ps)`.
    channels: int32[n]; a negative number is the falling edge of that input.
    epoch: number of the stream that the block belongs to; blocks of two epochs never mix.

    Raises ValueError when the arrays disagree, are unsorted or leave the watermark.
    """

    times_ps: NDArray[np.int64]
    channels: NDArray[np.int32]
    begin_ps: int
    end_ps: int
    gaps: tuple[Gap, ...] = ()
    epoch: int = 0

    def __post_init__(self) -> None:
        times = np.ascontiguousarray(self.times_ps, dtype=np.int64)
        channels = np.ascontiguousarray(self.channels, dtype=np.int32)
        object.__setattr__(self, "times_ps", times)
        object.__setattr__(self, "channels", channels)
        if times.ndim != 1 or times.shape != channels.shape:
            raise ValueError(
                f"times_ps {times.shape} and channels {channels.shape} must be 1-d and of one length"
            )
        if self.end_ps < self.begin_ps:
            raise ValueError(f"block ends ({self.end_ps} ps) before it begins ({self.begin_ps} ps)")
        if times.size == 0:
            return
        if times[0] < self.begin_ps or times[-1] >= self.end_ps:
            raise ValueError(
                f"tags span {times[0]}..{times[-1]} ps, "
                f"outside the block's [{self.begin_ps}, {self.end_ps}) ps"
            )
        if np.any(times[1:] < times[:-1]):
            raise ValueError("tags of a block must be in time order")

    def __len__(self) -> int:
        return int(self.times_ps.size)

    @property
    def duration_ps(self) -> int:
        """Length of the watermark, gaps included."""
        return self.end_ps - self.begin_ps

    @property
    def live_time_ps(self) -> int:
        """Length of the watermark without the gaps."""
        lost = sum(min(g.end_ps, self.end_ps) - max(g.begin_ps, self.begin_ps) for g in self.gaps)
        return self.duration_ps - lost
