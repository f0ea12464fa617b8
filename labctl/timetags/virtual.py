"""Virtual channels: stages that add tags under a channel number of their own and leave all others alone.

A delayed copy of a channel is an `Either` of that channel alone, followed by `Delays`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.merge_kernels import find_coincidences, merge_sorted
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Watermark, whole_ps


class Either:
    """Adds a tag on channel `new` for each tag on any of `channels`."""

    def __init__(self, channels: Sequence[int], new: int) -> None:
        self._channels, self._new = np.array(channels, np.int32), int(new)

    def process(self, block: TagBlock) -> TagBlock:
        """The block with the tags of the new channel."""
        return _with(block, block.times_ps[np.isin(block.channels, self._channels)], self._new)


class Coincident:
    """Adds a tag on channel `new` when all of `channels` have fired within window_ps.

    The new tag has the time of the last of them. Each tag belongs to one coincidence at most, and of several
    tags on one channel the latest counts. No coincidence spans a gap.
    """

    def __init__(self, channels: Sequence[int], window_ps: int, new: int) -> None:
        self._selector = Selector(channels)
        n = len(self._selector.channels)
        if n < 2:
            raise ValueError(f"a coincidence needs at least two channels, got {list(channels)}")
        self._window, self._new = whole_ps("window_ps", window_ps), int(new)
        self._watermark = Watermark()
        self._latest, self._seen = np.zeros(n, np.int64), np.zeros(n, np.bool_)

    def process(self, block: TagBlock) -> TagBlock:
        """The block with the coincidences that were completed in it."""
        found = []
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._seen[:] = False
            times, index = self._selector.select(stretch.times_ps, stretch.channels)
            completed = np.empty(index.size, np.int64)
            number = find_coincidences(times, index, self._window, self._latest, self._seen, completed)
            found.append(completed[:number])
        return _with(block, np.concatenate([np.empty(0, np.int64), *found]), self._new)


def _with(block: TagBlock, times: NDArray[np.int64], new: int) -> TagBlock:
    channels = np.full(times.shape, new, np.int32)
    merged = merge_sorted(block.times_ps, block.channels, times, channels)
    return replace(block, times_ps=merged[0], channels=merged[1])
