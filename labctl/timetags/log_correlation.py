"""Correlation over many decades of lag, exact: every bin holds the pairs that belong to it, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.g2 import G2, edge_noise, normalise
from labctl.timetags.log_kernels import count_below_edges
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Stretch, Watermark

_PIECE = 1 << 17  # tags walked together, while they are in the cache
_GUARD = np.iinfo(np.int64).max


def log_edges(first_ps: int, last_ps: int, per_decade: int = 10) -> NDArray[np.int64]:
    """Lag edges from first_ps to at least last_ps, `per_decade` to the decade; int64, ascending, whole ps."""
    if not 1 <= first_ps < last_ps or per_decade < 1:
        raise ValueError(f"no logarithmic lags from {first_ps} to {last_ps} ps with {per_decade} per decade")
    n = int(np.ceil(np.log10(last_ps / first_ps) * per_decade - 1e-9))
    return np.unique(np.rint(first_ps * 10.0 ** (np.arange(n + 1) / per_decade)).astype(np.int64))


class LogCorrelation:
    """Pairs by lag t_b - t_a in bins of any widths: edges_ps ascend, each bin is [edge, next edge).

    Takes about a nanosecond per tag and edge, and holds the tags of the longest lag in memory. Tags pair only
    within an unbroken stretch; a tag never pairs with itself.
    ValueError for fewer than two edges or edges that do not ascend.
    """

    def __init__(self, a: int, b: int, edges_ps: Sequence[int] | NDArray[np.int64]) -> None:
        self.lag_edges_ps: NDArray[np.int64] = np.array(edges_ps, np.int64)
        if self.lag_edges_ps.size < 2 or np.any(np.diff(self.lag_edges_ps) <= 0):
            raise ValueError("edges_ps must be at least two ascending lags")
        self._a, self._b = int(a), int(b)
        self._selector = Selector((self._a, self._b))
        self._watermark = Watermark()
        self._chains = _Chains(self.lag_edges_ps)
        self._counts = np.zeros(self.lag_edges_ps.size - 1, np.int64)
        self._closed_ps2 = np.zeros(self._counts.size)
        self._open_ps = 0
        self.singles: tuple[int, int] = (0, 0)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[n]: pairs in each bin."""
        counts = self._counts + self._chains.finished()
        if self._a == self._b:
            own = np.searchsorted(self.lag_edges_ps, 0, side="right") - 1
            if 0 <= own < counts.size:
                counts[own] -= self.singles[0]
        return counts

    def g2(self) -> G2:
        """Normalised correlation, the finite length of the live stretches allowed for."""
        n_a, n_b = self.singles
        combinations = n_a * (n_a - 1) if self._a == self._b else n_a * n_b
        per_time2 = combinations / self.live_time_ps**2 if self.live_time_ps else 0.0
        overlap_ps2 = self._closed_ps2 + _pair_time(self.lag_edges_ps, self._open_ps)
        seen = overlap_ps2 / (np.diff(self.lag_edges_ps) * max(self.live_time_ps, 1))
        return normalise(self.lag_edges_ps, self.counts, per_time2 * overlap_ps2, edge_noise(seen, n_a, n_b))

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._restart()
            self._add(stretch)

    def _restart(self) -> None:
        self._counts += self._chains.finished()
        self._chains = _Chains(self.lag_edges_ps)
        self._closed_ps2 += _pair_time(self.lag_edges_ps, self._open_ps)
        self._open_ps = 0

    def _add(self, stretch: Stretch) -> None:
        self._open_ps += stretch.end_ps - stretch.begin_ps
        for first in range(0, max(stretch.times_ps.size, 1), _PIECE):
            last = first + _PIECE
            is_last = last >= stretch.times_ps.size
            end_ps = stretch.end_ps if is_last else int(stretch.times_ps[last])
            self._add_piece(stretch.times_ps[first:last], stretch.channels[first:last], end_ps)

    def _add_piece(self, times_ps: NDArray[np.int64], channels: NDArray[np.int32], end_ps: int) -> None:
        times, index = self._selector.select(times_ps, channels)
        starts, stops = (times[index == self._selector.channels.index(c)] for c in (self._a, self._b))
        self.singles = (self.singles[0] + starts.size, self.singles[1] + stops.size)
        self._chains.feed(starts, stops, end_ps)


class _Chains:
    """For each edge, how far its starts and stops have been walked, within one unbroken stretch."""

    def __init__(self, edges_ps: NDArray[np.int64]) -> None:
        self._edges = edges_ps
        self._starts, self._stops = np.empty(0, np.int64), np.full(1, _GUARD)
        self._next_start, self._next_stop, self._sums = np.zeros((3, edges_ps.size), np.int64)
        self._dropped = 0

    def feed(self, starts: NDArray[np.int64], stops: NDArray[np.int64], end_ps: int) -> None:
        """Add tags; a start is done for an edge when all stops before start + edge are known."""
        self._starts = np.concatenate([self._starts, starts])
        self._stops = np.concatenate([self._stops[:-1], stops, [_GUARD]])
        until = np.searchsorted(self._starts, end_ps - self._edges, side="right")
        until = np.maximum(until, self._next_start)
        self._walk(until, self._next_start, self._next_stop, self._sums)
        self._drop_old()

    def finished(self) -> NDArray[np.int64]:
        """int64[n]: pairs in each bin if no tag follows."""
        until = np.full(self._edges.size, self._starts.size)
        next_start, next_stop, sums = self._next_start.copy(), self._next_stop.copy(), self._sums.copy()
        self._walk(until, next_start, next_stop, sums)
        return np.diff(sums)

    def _walk(
        self,
        until: NDArray[np.int64],
        next_start: NDArray[np.int64],
        next_stop: NDArray[np.int64],
        sums: NDArray[np.int64],
    ) -> None:
        begin = next_start.copy()
        count_below_edges(self._starts, self._stops, self._edges, until, next_start, next_stop, sums)
        sums += (until - begin) * self._dropped  # stops that are gone came before all of these

    def _drop_old(self) -> None:
        starts, stops = int(self._next_start.min()), int(self._next_stop.min())
        self._starts, self._stops = self._starts[starts:], self._stops[stops:]
        self._next_start -= starts
        self._next_stop -= stops
        self._dropped += stops


def _pair_time(edges_ps: NDArray[np.int64], length_ps: int) -> NDArray[np.float64]:
    """Integral of max(length - |lag|, 0) over each bin, in ps squared."""
    lags = np.clip(edges_ps.astype(np.float64), -length_ps, length_ps)
    return np.diff(lags * (length_ps - 0.5 * np.abs(lags)))
