"""Correlation with bins that double from level to level: quick over nine decades, and smoothed by its bins.

Level l counts tags in bins of bin_ps * 2**l and pairs of tags by the difference of their bin numbers. A lag
of k bins therefore collects true lags from k - 1 to k + 1 bin widths with triangular weight: g2 comes out
averaged over that triangle. Where this matters use `LogCorrelation`.

Narrow bins are nearly all empty and are scanned tag by tag; wide ones are multiplied array by array. Both
give the same integers; from which width on bins count as wide is chosen anew behind every gap, by the rate.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.g2 import G2, edge_noise, normalise
from labctl.timetags.log_kernels import add_products, count_code_in_bins, join_bins
from labctl.timetags.pair_kernels import scan_pairs
from labctl.timetags.pairs import multiplier
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Watermark, whole_ps

_TAGS_PER_BIN = 0.25  # about where an array of bins becomes quicker than a walk through the tags
_DENSE_WIDTHS_PS = (16_000, 1_000_000)  # bounds: memory and time with hardly any light, and with much
_PIECE_BINS = 1 << 18
_PIECE_TAGS = 1 << 16


class MultiTau:
    """Correlation of channels a and b at lags t_b - t_a from 0 to at least last_ps, on bins that double.

    bin_ps: width of the narrowest bins. lags_per_level: even; level 0 has lags of 0 .. n - 1 bins, each
    further level n / 2 .. n - 1 of its wider bins. `lags_ps`, `widths_ps`: int64[m], nominal lag and bin
    width; `counts`: int64[m], pairs whose bin numbers differ by just that. Bins begin with the first block.
    Tags pair only within an unbroken stretch; a tag never pairs with itself.
    """

    def __init__(self, a: int, b: int, bin_ps: int, last_ps: int, lags_per_level: int = 16) -> None:
        if lags_per_level < 2 or lags_per_level % 2:
            raise ValueError(f"lags_per_level must be even and at least 2, got {lags_per_level}")
        self._bin_ps, self._n_lags = whole_ps("bin_ps", bin_ps), lags_per_level
        n_levels = 1
        while self._bin_ps * (self._n_lags - 1) << (n_levels - 1) < last_ps:
            n_levels += 1
        ranges = [np.arange(self._lowest(level), lags_per_level) for level in range(n_levels)]
        self.widths_ps: NDArray[np.int64] = np.concatenate(
            [np.full(lags.size, self._bin_ps << level) for level, lags in enumerate(ranges)]
        )
        self.lags_ps: NDArray[np.int64] = np.concatenate(ranges) * self.widths_ps
        self._selector = Selector((a, b))
        n_channels = len(self._selector.channels)
        self._a, self._b = (self._selector.channels.index(channel) for channel in (a, b))
        self._shape = (n_levels, n_channels)
        self._watermark = Watermark()
        self._closed: NDArray[np.int64] = np.zeros(self.lags_ps.size, np.int64)
        self._closed_ps = np.zeros(self.lags_ps.size)
        self._open_ps = 0
        self.singles: tuple[int, int] = (0, 0)
        self._begin(0, _DENSE_WIDTHS_PS[0])

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[m]: pairs at each lag."""
        own_pairs = self._own if self._a == self._b else 0
        levels = [*self._sparse.counts(self._a, self._b), *self._dense.counts(own_pairs)]
        return self._closed + np.concatenate(
            [counts[self._lowest(level) :] for level, counts in enumerate(levels)]
        )

    def g2(self) -> G2:
        """Normalised correlation, smoothed over neighbouring bins; edges lie half-way between the lags."""
        n_a, n_b = self.singles
        combinations = n_a * (n_a - 1) if self._a == self._b else n_a * n_b
        per_time2 = combinations / self.live_time_ps**2 if self.live_time_ps else 0.0
        overlap_ps = self._closed_ps + self._overlap()
        inner = (self.lags_ps[1:] + self.lags_ps[:-1]) // 2
        edges = np.concatenate([[0], inner, self.lags_ps[-1:] + self.widths_ps[-1:] // 2])
        noise = edge_noise(overlap_ps / max(self.live_time_ps, 1), n_a, n_b)
        return normalise(edges, self.counts, per_time2 * self.widths_ps * overlap_ps, noise)

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            times, index = self._selector.select(stretch.times_ps, stretch.channels)
            times -= self._origin
            begin, end = (t - self._origin for t in (stretch.begin_ps, stretch.end_ps))
            if not stretch.continues:
                self._closed = self.counts
                self._closed_ps += self._overlap()
                self._begin(begin, dense_from(times.size, end - begin))
            self._open_ps += end - begin
            n_a, n_b = int(np.count_nonzero(index == self._a)), int(np.count_nonzero(index == self._b))
            self._own += n_a
            self.singles = (self.singles[0] + n_a, self.singles[1] + n_b)
            self._sparse.feed(times, index)
            self._dense.feed(times, index, end)

    def _begin(self, begin: int, dense_from_ps: int) -> None:
        """Begin a stretch: from here on nothing pairs with what was before."""
        n_levels, n_channels = self._shape
        n_sparse = sum(self._bin_ps << level < dense_from_ps for level in range(n_levels))
        self._sparse = _SparseLevels(n_sparse, n_channels, self._bin_ps, self._n_lags)
        self._dense = _DenseLevels(n_sparse, n_levels, self._bin_ps, self._n_lags, (self._a, self._b), begin)
        self._own = 0
        self._open_ps = 0

    @property
    def _origin(self) -> int:
        return self._watermark.begin_ps or 0

    def _lowest(self, level: int) -> int:
        return self._n_lags // 2 if level else 0

    def _overlap(self) -> NDArray[np.float64]:
        return np.maximum(self._open_ps - self.lags_ps, 0.0)


def dense_from(n_tags: int, duration_ps: int) -> int:
    """Width in ps from which on bins are worth an array, at the rate of so many tags in that time."""
    narrowest, widest = _DENSE_WIDTHS_PS
    return int(min(max(_TAGS_PER_BIN * duration_ps / max(n_tags, 1), narrowest), widest))


class _SparseLevels:
    """Levels whose bins hold a tag now and then: pairs are met one by one."""

    def __init__(self, n_levels: int, n_channels: int, bin_ps: int, n_lags: int) -> None:
        self._bin_ps, self._n_lags, self._n_channels = bin_ps, n_lags, n_channels
        # whole bins are distances on edges: every other cell of the kernel stays empty
        self._per_pair = 2 * n_lags - 1
        self._cells = np.zeros((n_levels, n_channels**2 * self._per_pair + 1), np.int64)
        self._bins, self._codes = np.zeros(1, np.int64), np.zeros(1, np.int32)  # place 0 is a guard

    def feed(self, times: NDArray[np.int64], index: NDArray[np.int32]) -> None:
        """Add tags: ps from the origin of the bins, and the place of their channel."""
        if len(self._cells) == 0:
            return
        codes = index * np.int32(self._per_pair)
        for first in range(0, times.size, _PIECE_TAGS):
            self._feed_piece(times[first : first + _PIECE_TAGS], codes[first : first + _PIECE_TAGS])

    def counts(self, a: int, b: int) -> list[NDArray[np.int64]]:
        """int64[n_lags] for each level; a, b: codes of the two channels."""
        found = []
        for cells in self._cells:
            pairs = cells[:-1].reshape(self._n_channels, self._n_channels, self._per_pair)[..., ::2]
            counts = pairs[b, a].copy()
            counts[0] += pairs[a, b, 0]  # in one bin either may be the later
            found.append(counts)
        return found

    def _feed_piece(self, times: NDArray[np.int64], codes: NDArray[np.int32]) -> None:
        first, reach = self._bins.size, self._n_lags - 1
        self._bins = np.concatenate([self._bins, times // self._bin_ps])
        self._codes = np.concatenate([self._codes, codes])
        for level, cells in enumerate(self._cells):
            bins = self._bins >> level
            bins[0] = bins[1] - self._n_lags
            scan_pairs(
                bins, self._codes, first, bins.size, reach, 1, multiplier(reach, 1), self._n_channels, cells
            )
        oldest = (self._bins[-1] >> level) - self._n_lags << level
        kept = 1 + int(np.searchsorted(self._bins[1:], oldest))
        self._bins = np.concatenate([self._bins[:1], self._bins[kept:]])
        self._codes = np.concatenate([self._codes[:1], self._codes[kept:]])


class _DenseLevels:
    """Levels whose bins hold a tag more often than not: arrays of counts are multiplied."""

    def __init__(
        self, first_level: int, n_levels: int, bin_ps: int, n_lags: int, channels: tuple[int, int], begin: int
    ) -> None:
        self._first_level = first_level
        self._width = bin_ps << first_level
        self._channels = channels
        self._times, self._index = np.empty(0, np.int64), np.empty(0, np.int32)
        self._next_bin = begin // self._width
        self._levels = [
            _DenseLevel(n_lags, n_lags // 2 if level else 0, self._next_bin >> level - first_level)
            for level in range(first_level, n_levels)
        ]

    def feed(self, times: NDArray[np.int64], index: NDArray[np.int32], end: int) -> None:
        """Add tags up to `end`; bins that are over then are multiplied."""
        if not self._levels:
            return
        self._times, self._index = np.append(self._times, times), np.append(self._index, index)
        while self._next_bin < end // self._width:
            self._push(min(self._next_bin + _PIECE_BINS, end // self._width))

    def counts(self, own_pairs: int) -> list[NDArray[np.int64]]:
        """int64[n_lags] for each level; own_pairs: tags that level 0 has paired with themselves."""
        levels = copy.deepcopy(self).finished()
        found = [level.sums for level in levels]
        if found and self._first_level == 0:
            found[0][0] -= own_pairs
        return found

    def finished(self) -> list[_DenseLevel]:
        """The levels after no more tags: the bin that is not over counts, and the odd ones on each level."""
        if not self._levels:
            return []
        self._push(self._next_bin + 1)
        bins = np.empty((2, 0), np.int32)
        for level in self._levels:
            bins = level.finish(bins)
        return self._levels

    def _push(self, end_bin: int) -> None:
        """Multiply the bins up to end_bin."""
        cut = int(np.searchsorted(self._times, end_bin * self._width))
        bins = np.zeros((2, end_bin - self._next_bin), np.int32)
        for row, code in zip(bins, self._channels, strict=True):
            begin = self._next_bin * self._width
            count_code_in_bins(self._times[:cut], self._index[:cut], code, begin, self._width, row)
        self._times, self._index, self._next_bin = self._times[cut:], self._index[cut:], end_bin
        for level in self._levels:
            bins = level.push(bins)


class _DenseLevel:
    """Counts of both channels in consecutive bins, the newest of them kept for the lags to come."""

    def __init__(self, n_lags: int, lowest: int, next_bin: int) -> None:
        self._n_lags, self._lowest = n_lags, lowest
        self.sums: NDArray[np.int64] = np.zeros(n_lags, np.int64)
        # bins of twice the width begin with an even one
        self._odd = next_bin % 2
        self._recent = np.zeros((2, self._odd), np.int32)

    def push(self, bins: NDArray[np.int32]) -> NDArray[np.int32]:
        """Correlate the next bins (int32[2, n]); returns those of twice the width that are complete."""
        known = self._recent.shape[1]
        full = np.concatenate([self._recent, bins], axis=1)
        add_products(full[0], full[1], known, self._lowest, self._n_lags, self.sums)
        self._recent = full[:, -self._n_lags :].copy()
        loose = full[:, known - self._odd :]
        n_joined, self._odd = divmod(loose.shape[1], 2)
        return join_bins(loose, n_joined)

    def finish(self, bins: NDArray[np.int32]) -> NDArray[np.int32]:
        """As `push`, but an odd bin at the end counts as a complete one of twice the width."""
        joined = self.push(bins)
        return np.concatenate([joined, self._recent[:, -1:]], axis=1) if self._odd else joined
