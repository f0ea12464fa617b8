"""Correlation with bins that double from level to level: quick over nine decades, and smoothed by its bins.

Level l counts tags in bins of bin_ps * 2**l and pairs of tags by the difference of their bin numbers. A lag
of k bins therefore collects true lags from k - 1 to k + 1 bin widths with triangular weight: g2 comes out
averaged over that triangle. Where this matters use `LogCorrelation`.

Narrow bins are nearly all empty and are scanned tag by tag; wide ones are multiplied array by array. Both
give the same integers.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.g2 import G2, edge_noise, normalise
from labctl.timetags.kernels import count_in_bins
from labctl.timetags.log_kernels import add_products
from labctl.timetags.pair_kernels import scan_pairs
from labctl.timetags.pairs import multiplier
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Watermark, whole_ps

_DENSE_FROM_PS = 256_000
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
        n_sparse = sum(self._bin_ps << level < _DENSE_FROM_PS for level in range(n_levels))
        self._sparse = _SparseLevels(n_sparse, n_channels, self._bin_ps, lags_per_level)
        self._dense = _DenseLevels(n_sparse, n_levels, self._bin_ps, lags_per_level)
        self._watermark = Watermark()
        self._closed_ps = np.zeros(self.lags_ps.size)
        self._open_ps = 0
        self.singles: tuple[int, int] = (0, 0)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[m]: pairs at each lag."""
        levels = [*self._sparse.counts(self._a, self._b), *self._dense.counts(self._own_pairs())]
        return np.concatenate([counts[self._lowest(level) :] for level, counts in enumerate(levels)])

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
            begin, end = (t - self._origin for t in (stretch.begin_ps, stretch.end_ps))
            if not stretch.continues:
                self._closed_ps += self._overlap()
                self._open_ps = 0
                self._sparse.restart()
                self._dense.restart(begin)
            self._open_ps += end - begin
            times, index = self._selector.select(stretch.times_ps, stretch.channels)
            times -= self._origin
            a, b = times[index == self._a], times[index == self._b]
            self.singles = (self.singles[0] + a.size, self.singles[1] + b.size)
            self._sparse.feed(times, index)
            self._dense.feed(a, b, end)

    @property
    def _origin(self) -> int:
        return self._watermark.begin_ps or 0

    def _own_pairs(self) -> int:
        return self.singles[0] if self._a == self._b else 0

    def _lowest(self, level: int) -> int:
        return self._n_lags // 2 if level else 0

    def _overlap(self) -> NDArray[np.float64]:
        return np.maximum(self._open_ps - self.lags_ps, 0.0)


class _SparseLevels:
    """Levels whose bins hold a tag now and then: pairs are met one by one."""

    def __init__(self, n_levels: int, n_channels: int, bin_ps: int, n_lags: int) -> None:
        self._bin_ps, self._n_lags, self._n_channels = bin_ps, n_lags, n_channels
        # whole bins are distances on edges: every other cell of the kernel stays empty
        self._per_pair = 2 * n_lags - 1
        self._cells = np.zeros((n_levels, n_channels**2 * self._per_pair + 1), np.int64)
        self.restart()

    def restart(self) -> None:
        """Form no pair across this point."""
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
    """Levels whose bins hold tags more often than not: arrays of counts are multiplied."""

    def __init__(self, first_level: int, n_levels: int, bin_ps: int, n_lags: int) -> None:
        self._first_level = first_level
        self._width = bin_ps << first_level
        self._levels = [
            _DenseLevel(n_lags, n_lags // 2 if level else 0) for level in range(first_level, n_levels)
        ]
        self._times: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * 2
        self._next_bin = 0

    def restart(self, begin: int) -> None:
        """Form no pair across this point; time goes on at `begin` (ps from the origin of the bins)."""
        self._flush()
        self._next_bin = begin // self._width
        for level, state in enumerate(self._levels):
            state.restart(self._next_bin >> level)

    def feed(self, a: NDArray[np.int64], b: NDArray[np.int64], end: int) -> None:
        """Add tags up to `end`; bins that are over then are multiplied."""
        if not self._levels:
            return
        self._times = [np.concatenate([held, new]) for held, new in zip(self._times, (a, b), strict=True)]
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
        """The levels after no more tags."""
        self._flush()
        return self._levels

    def _push(self, end_bin: int) -> None:
        """Multiply the bins up to end_bin."""
        rows = []
        for k, times in enumerate(self._times):
            cut = int(np.searchsorted(times, end_bin * self._width))
            row = np.zeros(end_bin - self._next_bin, np.int32)
            count_in_bins(times[:cut], self._next_bin * self._width, self._width, row)
            rows.append(row)
            self._times[k] = times[cut:]
        a, b = rows
        for level in self._levels:
            a, b = level.push(a, b)
        self._next_bin = end_bin

    def _flush(self) -> None:
        """Multiply what is there: the bin that is not over, and the odd ones left on each level."""
        if not self._levels:
            return
        self._push(self._next_bin + 1)
        a = b = np.empty(0, np.int32)
        for level in self._levels:
            a, b = level.push(a, b)
            a, b = np.concatenate([a, level.odd[0]]), np.concatenate([b, level.odd[1]])
            level.odd = (level.odd[0][:0], level.odd[1][:0])


class _DenseLevel:
    """Counts in consecutive bins of one width, the newest of them kept for the lags to come."""

    def __init__(self, n_lags: int, lowest: int) -> None:
        self._n_lags, self._lowest = n_lags, lowest
        self.sums: NDArray[np.int64] = np.zeros(n_lags, np.int64)
        self.restart(0)

    def restart(self, next_bin: int) -> None:
        """Forget the bins so far; the next one has this number."""
        self._recent = (np.empty(0, np.int32), np.empty(0, np.int32))
        missing = np.zeros(next_bin % 2, np.int32)
        self.odd = (missing, missing)

    def push(self, a: NDArray[np.int32], b: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Correlate the next bins; returns those of twice the width that are complete."""
        first = self._recent[0].size
        full_a, full_b = np.concatenate([self._recent[0], a]), np.concatenate([self._recent[1], b])
        add_products(full_a, full_b, first, self._lowest, self._n_lags, self.sums)
        self._recent = (full_a[-self._n_lags :], full_b[-self._n_lags :])
        joined_a, odd_a = _join(np.concatenate([self.odd[0], a]))
        joined_b, odd_b = _join(np.concatenate([self.odd[1], b]))
        self.odd = (odd_a, odd_b)
        return joined_a, joined_b


def _join(bins: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Neighbouring bins added in pairs, and the odd one that is left."""
    even = bins.size // 2 * 2
    return bins[0:even:2] + bins[1:even:2], bins[even:]
