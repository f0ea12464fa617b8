"""Picking the tags of some channels out of a stream, and numbering the channels on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.pair_kernels import append_selected

_MAX_SPAN = 1 << 16


class Selector:
    """Finds the tags on any of `channels` and gives each a code: place of its channel times `factor`.

    The channels are put in ascending order.
    ValueError for no channels, and for channel numbers further apart than a table can be long.
    """

    def __init__(self, channels: Sequence[int], factor: int = 1) -> None:
        if not channels:
            raise ValueError("need at least one channel")
        self.channels = tuple(sorted({int(channel) for channel in channels}))
        self.lowest = self.channels[0]
        span = self.channels[-1] - self.lowest + 1
        if span > _MAX_SPAN:
            raise ValueError(f"channel numbers {self.lowest} and {self.channels[-1]} lie too far apart")
        self.lookup: NDArray[np.int32] = np.full(span + 1, -1, np.int32)
        self.lookup[np.array(self.channels) - self.lowest] = factor * np.arange(len(self.channels))

    def select(
        self, times: NDArray[np.int64], channels: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Times (int64[n]) and codes (int32[n]) of the tags found."""
        found, codes = np.empty(times.size, np.int64), np.empty(times.size, np.int32)
        stop = append_selected(times, channels, self.lookup, self.lowest, found, codes, 0)
        return found[:stop], codes[:stop]
