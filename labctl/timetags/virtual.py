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
        self._channels = tuple(sorted({int(channel) for channel in channels}))
        if len(self._channels) < 2:
            raise ValueError(f"a coincidence needs at least two channels, got {list(self._channels)}")
        self._window, self._new = whole_ps("window_ps", window_ps), int(new)
        self._watermark = Watermark()
        self._latest = np.zeros(len(self._channels), np.int64)
        self._seen = np.zeros(len(self._channels), np.bool_)

    def process(self, block: TagBlock) -> TagBlock:
        """The block with the coincidences that were completed in it."""
        found = []
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._seen[:] = False
            index = positions(stretch.channels, self._channels)
            times = np.empty(index.size, np.int64)
            number = find_coincidences(
                stretch.times_ps, index, self._window, self._latest, self._seen, times
            )
            found.append(times[:number])
        return _with(block, np.concatenate([np.empty(0, np.int64), *found]), self._new)


def positions(channels: NDArray[np.int32], known: Sequence[int]) -> NDArray[np.int32]:
    """int32[n]: position of each channel in `known`, -1 for channels that are not there."""
    index = np.full(channels.shape, -1, np.int32)
    for position, channel in enumerate(known):
        index[channels == channel] = position
    return index


def _with(block: TagBlock, times: NDArray[np.int64], new: int) -> TagBlock:
    channels = np.full(times.shape, new, np.int32)
    merged = merge_sorted(block.times_ps, block.channels, times, channels)
    return replace(block, times_ps=merged[0], channels=merged[1])
