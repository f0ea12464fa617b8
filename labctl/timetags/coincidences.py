"""N-fold coincidences: how often which detectors fired together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labctl.timetags.block import TagBlock
from labctl.timetags.merge_kernels import count_groups
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Watermark, whole_ps

_MOST_CHANNELS = 20


class Coincidences:
    """Counts groups of tags by the set of channels in them.

    A group begins with the first tag behind the last group and takes every tag up to window_ps (inclusive)
    after it; no group spans a gap. Two tags of one channel in a group count once.
    """

    def __init__(self, channels: Sequence[int], window_ps: int) -> None:
        self._selector = Selector(channels)
        self.channels = self._selector.channels
        if len(self.channels) > _MOST_CHANNELS:
            raise ValueError(f"need 1 to {_MOST_CHANNELS} channels, got {len(self.channels)}")
        self._window = whole_ps("window_ps", window_ps)
        self._counts = np.zeros(1 << len(self.channels), np.int64)
        self._watermark = Watermark()
        self._begin, self._pattern = 0, 0

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def counts(self) -> dict[frozenset[int], int]:
        """Number of groups for each set of channels that occurred, groups that may still grow left out."""
        return {
            frozenset(c for k, c in enumerate(self.channels) if pattern >> k & 1): int(self._counts[pattern])
            for pattern in np.flatnonzero(self._counts).tolist()
        }

    def exactly(self, *channels: int) -> int:
        """Number of groups in which these channels fired and no other."""
        return int(self._counts[self._pattern_of(channels)])

    def at_least(self, *channels: int) -> int:
        """Number of groups in which these channels fired, whatever the others did."""
        pattern = self._pattern_of(channels)
        containing = (np.arange(self._counts.size) & pattern) == pattern
        return int(self._counts[containing].sum())

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._close()
            times, index = self._selector.select(stretch.times_ps, stretch.channels)
            self._begin, self._pattern = count_groups(
                times, index, self._window, self._begin, self._pattern, self._counts
            )
            if self._pattern and stretch.end_ps > self._begin + self._window:
                self._close()

    def _close(self) -> None:
        if self._pattern:
            self._counts[self._pattern] += 1
        self._pattern = 0

    def _pattern_of(self, channels: Sequence[int]) -> int:
        unknown = sorted(set(channels) - set(self.channels))
        if unknown:
            raise KeyError(f"channel {unknown[0]} is not watched here; channels: {list(self.channels)}")
        return sum(1 << self.channels.index(channel) for channel in set(channels))
