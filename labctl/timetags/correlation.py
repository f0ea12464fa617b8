"""Full multi-stop correlation of all channel pairs in one backward scan, exact at every bin edge.

Each pair of tags is met once, with the later tag first; what a pair contributes to negative lags follows from
the counts at positive lags and from the separately kept counts that lie exactly on a bin edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.g2 import G2, Overlap, normalise
from labctl.timetags.kernels import SHIFT, append_selected, scan_pairs
from labctl.timetags.stream import Watermark, whole_ps

_SLICE = 1 << 16  # tags per pass: the working set stays in the second-level cache
_NONE = 255
_MAX_SPAN = 1 << 16


class PairHistogram:
    """Lag histograms of all ordered pairs of `channels`, over lags [-window_ps, window_ps) in bins of bin_ps.

    `singles` counts the tags of each channel. ValueError for a window that is not a multiple of the bin
    and for unusable channel lists.
    """

    def __init__(self, channels: Sequence[int], window_ps: int, bin_ps: int) -> None:
        self.window_ps, self.bin_ps = whole_ps("window_ps", window_ps), whole_ps("bin_ps", bin_ps)
        if self.window_ps % self.bin_ps:
            raise ValueError(f"window_ps ({window_ps}) must be a multiple of bin_ps ({bin_ps})")
        self.channels = tuple(sorted({int(channel) for channel in channels}))
        if not self.channels or len(self.channels) >= _NONE:
            raise ValueError(f"need 1 to {_NONE - 1} channels, got {len(self.channels)}")
        self._lookup = _lookup(self.channels)
        self.half_bins = self.window_ps // self.bin_ps
        cells = len(self.channels) ** 2 * (self.half_bins + 1)
        self._lags, self._edges = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
        self._times, self._index = np.empty(2 * _SLICE, np.int64), np.empty(2 * _SLICE, np.uint8)
        self._kept = 0
        self.singles: dict[int, int] = dict.fromkeys(self.channels, 0)

    def restart(self) -> None:
        """Forget the tags carried over, so that no pair is formed across a break."""
        self._kept = 0

    def feed(self, times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> None:
        """Add tags that follow all earlier ones; pairs with the tags carried over are counted."""
        for first in range(0, times_ps.size, _SLICE):
            self._feed_slice(times_ps[first : first + _SLICE], channels[first : first + _SLICE])

    def counts(self, a: int, b: int) -> NDArray[np.int64]:
        """int64[2 * window_ps // bin_ps]: pairs by lag t_b - t_a. KeyError for a channel not watched."""
        shape = (len(self.channels), len(self.channels), self.half_bins + 1)
        lags, edges = self._lags.reshape(shape), self._edges.reshape(shape)
        i, j = self._position(a), self._position(b)
        after = lags[j, i, :-1].copy()
        # simultaneous tags were met in file order; both orders count at lag 0
        after[0] += edges[i, j, 0]
        # bin k of positive lags holds [k, k + 1), the mirrored negative bin needs (k, k + 1]
        before = lags[i, j, :-1] - edges[i, j, :-1] + edges[i, j, 1:]
        return np.concatenate([before[::-1], after])

    def _position(self, channel: int) -> int:
        if channel not in self.channels:
            raise KeyError(f"channel {channel} is not correlated here; channels: {list(self.channels)}")
        return self.channels.index(channel)

    def _feed_slice(self, times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> None:
        self._make_room(times_ps.size)
        first = self._kept
        stop = append_selected(
            times_ps, channels, self._lookup, self.channels[0], self._times, self._index, first
        )
        for position, channel in enumerate(self.channels):
            self.singles[channel] += int(np.count_nonzero(self._index[first:stop] == position))
        scan_pairs(
            self._times,
            self._index,
            first,
            stop,
            self.window_ps,
            self.bin_ps,
            self._multiplier(),
            len(self.channels),
            self.half_bins + 1,
            self._lags,
            self._edges,
        )
        self._carry(stop, int(times_ps[-1]) - self.window_ps)

    def _carry(self, stop: int, horizon_ps: int) -> None:
        oldest = int(np.searchsorted(self._times[:stop], horizon_ps))
        self._kept = stop - oldest
        self._times[: self._kept] = self._times[oldest:stop].copy()
        self._index[: self._kept] = self._index[oldest:stop].copy()

    def _make_room(self, n_new: int) -> None:
        # one spare place: the kernel writes a tag before it knows whether it keeps it
        needed = self._kept + n_new + 1
        if needed > self._times.size:
            self._times = np.resize(self._times, 2 * needed)
            self._index = np.resize(self._index, 2 * needed)

    def _multiplier(self) -> int:
        exact = self.window_ps * self.bin_ps < 1 << SHIFT and self.half_bins < 1 << 20
        return (1 << SHIFT) // self.bin_ps + 1 if exact else 0


def _lookup(channels: tuple[int, ...]) -> NDArray[np.uint8]:
    span = channels[-1] - channels[0] + 1
    if span > _MAX_SPAN:
        raise ValueError(f"channel numbers {channels[0]} and {channels[-1]} lie too far apart")
    lookup = np.full(span, _NONE, np.uint8)
    lookup[np.array(channels) - channels[0]] = np.arange(len(channels))
    return lookup


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
    times = np.ascontiguousarray(times, np.int64)
    backwards = np.flatnonzero(times[1:] < times[:-1])
    if backwards.size:
        i = int(backwards[0])
        raise ValueError(
            f"times_ps must be ascending: tag {i + 1} at {times[i + 1]} ps follows {times[i]} ps"
        )
    histogram = PairHistogram((a, b), window_ps, bin_ps)
    histogram.feed(times, np.ascontiguousarray(numbers, np.int32))
    return histogram.counts(a, b)


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
        return self._histogram.counts(a, b)

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
