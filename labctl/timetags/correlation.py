"""Full multi-stop correlation of all channel pairs in one pass, from arrays or from a stream of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.g2 import G2, Overlap, normalise
from labctl.timetags.pair_kernels import is_ascending
from labctl.timetags.pairs import PairHistogram
from labctl.timetags.stream import Watermark

_SLICE = 1 << 16  # tags checked and counted together, while they are in the cache


def correlate(
    times_ps: NDArray[np.int64],
    channels: NDArray[np.int32],
    a: int,
    b: int,
    window_ps: int = 100_000,
    bin_ps: int = 1_000,
) -> NDArray[np.int64]:
    """Pairs #{i != j: lo <= t_j - t_i < hi}, i on channel a, j on channel b, for each lag bin [lo, hi).

    times_ps: int64[n], ascending (ties allowed, their order does not matter). channels: int32[n].
    Returns int64[2 * window_ps // bin_ps] over lags [-window_ps, window_ps). Simultaneous tags count in both
    orders; a tag never pairs with itself.
    Raises ValueError for unsorted times, arrays that disagree, or a window that is not a multiple of the bin.
    """
    times, numbers = np.asarray(times_ps), np.asarray(channels)
    if times.ndim != 1 or times.shape != numbers.shape:
        raise ValueError(f"times_ps {times.shape} and channels {numbers.shape} must be 1-d and of one length")
    if times.size and not (
        np.issubdtype(times.dtype, np.integer) and np.issubdtype(numbers.dtype, np.integer)
    ):
        raise ValueError(f"times_ps and channels must be integers, got {times.dtype} and {numbers.dtype}")
    times, numbers = np.ascontiguousarray(times, np.int64), np.ascontiguousarray(numbers, np.int32)
    histogram = PairHistogram((a, b), window_ps, bin_ps)
    for first in range(0, times.size, _SLICE):
        # one tag more: the step from the slice before is checked too
        if not is_ascending(times[max(first - 1, 0) : first + _SLICE]):
            raise ValueError(f"times_ps must be ascending: {_first_step_back(times)}")
        histogram.feed(times[first : first + _SLICE], numbers[first : first + _SLICE])
    return histogram.read().counts(a, b)


def _first_step_back(times: NDArray[np.int64]) -> str:
    i = int(np.argmax(times[1:] < times[:-1]))
    return f"tag {i + 1} at {times[i + 1]} ps follows {times[i]} ps"


class Correlation:
    """Accumulates the lag histograms of all ordered pairs (and autos) of `channels`, however blocks are cut.

    No pair is formed across a gap: what was lost there would bias the counts.
    """

    def __init__(self, channels: Sequence[int], window_ps: int = 100_000, bin_ps: int = 1_000) -> None:
        self._histogram = PairHistogram(channels, window_ps, bin_ps)
        self._watermark = Watermark()
        self._overlap = Overlap(self._histogram.half_bins, self._histogram.bin_ps)
        self.channels = self._histogram.channels
        half = self._histogram.half_bins
        self.lag_edges_ps: NDArray[np.int64] = np.arange(-half, half + 1, dtype=np.int64) * int(bin_ps)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            self._overlap.extend(stretch.end_ps - stretch.begin_ps, stretch.continues)
            if not stretch.continues:
                self._histogram.restart()
            self._histogram.feed(stretch.times_ps, stretch.channels)

    def counts(self, a: int, b: int) -> NDArray[np.int64]:
        """int64[2 * window_ps // bin_ps]: pairs by lag t_b - t_a. KeyError for a channel not watched."""
        return self._histogram.read().counts(a, b)

    def g2(self, a: int, b: int) -> G2:
        """Normalised correlation of a and b, edges of the live stretches allowed for.

        The expectation per bin is n_a n_b / T^2 (n (n - 1) / T^2 for an autocorrelation) times the bin width
        times the pair-live time at that lag, with T the live time.
        """
        pairs = self.counts(a, b)
        n_a, n_b = self._histogram.singles[a], self._histogram.singles[b]
        combinations = n_a * (n_a - 1) if a == b else n_a * n_b
        live_s = self.live_time_ps * 1e-12
        density = combinations / live_s**2 if live_s > 0 else 0.0
        expected = density * self._histogram.bin_ps * 1e-12 * self._overlap.seconds()
        return normalise(self.lag_edges_ps, pairs, expected)
