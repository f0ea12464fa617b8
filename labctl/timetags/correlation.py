"""Full multi-stop correlation of all channel pairs in one pass, from arrays or from a stream of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.g2 import G2, Overlap, edge_noise, normalise, renewal_pairs
from labctl.timetags.pair_kernels import is_ascending
from labctl.timetags.pairs import PairCounts, PairHistogram
from labctl.timetags.snapshot import Handover
from labctl.timetags.spread import Segments, excess
from labctl.timetags.stream import Stretch, Watermark

_SLICE = 1 << 16  # tags checked and counted together, while they are in the cache
_GROUPS = 8  # ranges of lag over which the fluctuations of the source are watched


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


@dataclass(frozen=True)
class CorrelationSnapshot:
    """What a `Correlation` had counted at one moment; nothing changes it any more.

    lag_edges_ps: int64[n + 1]. live_time_ps: live time in ps. overlap_s: float64[n], time during which a pair
    at each lag could have been recorded. increments: int64[m, size], totals per stretch, see `Segments`.
    """

    lag_edges_ps: NDArray[np.int64]
    live_time_ps: int
    pairs: PairCounts
    overlap_s: NDArray[np.float64]
    increments: NDArray[np.int64]

    @property
    def channels(self) -> tuple[int, ...]:
        """The correlated channels, ascending."""
        return self.pairs.channels

    @property
    def singles(self) -> dict[int, int]:
        """Tags by channel."""
        return dict(self.pairs.singles)

    def counts(self, a: int, b: int) -> NDArray[np.int64]:
        """int64[2 * window_ps // bin_ps]: pairs by lag t_b - t_a. KeyError for a channel not watched."""
        return self.pairs.counts(a, b)

    def g2(self, a: int, b: int, dead_time_ps: int = 0) -> G2:
        """Normalised correlation of a and b, edges of the live stretches allowed for.

        The expectation per bin is n_a n_b / T^2 (n (n - 1) / T^2 for an autocorrelation) times the bin width
        times the pair-live time at that lag, with T the live time. With the dead time of the detector an
        autocorrelation is compared with Poisson light behind the same dead time; between two detectors a dead
        time changes nothing that the rates do not say already.
        Raises KeyError for a channel not watched, ValueError for a dead time that the rate contradicts.
        """
        counts = self.counts(a, b)
        n_a, n_b = self.pairs.singles[a], self.pairs.singles[b]
        combinations = n_a * (n_a - 1) if a == b else n_a * n_b
        live_s = self.live_time_ps * 1e-12
        density = combinations / live_s**2 if live_s > 0 else 0.0
        expected = density * (self.lag_edges_ps[1] - self.lag_edges_ps[0]) * 1e-12 * self.overlap_s
        if a == b and dead_time_ps > 0 and n_a > 0:
            rate = n_a / live_s
            after = self.lag_edges_ps[self.overlap_s.size // 2 :]
            shape = renewal_pairs(after, rate, dead_time_ps) / (rate * np.diff(after) * 1e-12)
            expected = expected * np.concatenate([shape[::-1], shape])
        noise = edge_noise(self.overlap_s / live_s if live_s > 0 else self.overlap_s, n_a, n_b)
        return normalise(self.lag_edges_ps, counts, expected, np.hypot(self._excess(a, b), noise))

    def _excess(self, a: int, b: int) -> NDArray[np.float64]:
        n = len(self.channels)
        i, j = self.pairs.position(a), self.pairs.position(b)
        singles = self.increments[:, :n]
        n_groups = (self.increments.shape[1] - n) // n**2
        groups = self.increments[:, n:].reshape(-1, n, n, n_groups)
        before = excess(groups[:, i, j], singles[:, i], singles[:, j])
        after = excess(groups[:, j, i], singles[:, i], singles[:, j])
        half_bins = self.overlap_s.size // 2
        group_of = np.arange(half_bins) * before.size // half_bins
        return np.concatenate([before[group_of][::-1], after[group_of]])


class Correlation:
    """Accumulates the lag histograms of all ordered pairs (and autos) of `channels`, however blocks are cut.

    No pair is formed across a gap: what was lost there would bias the counts. Counts and g2 can be read by
    any thread while another one updates.
    """

    def __init__(self, channels: Sequence[int], window_ps: int = 100_000, bin_ps: int = 1_000) -> None:
        self._histogram = PairHistogram(channels, window_ps, bin_ps)
        self._watermark = Watermark()
        self._overlap = Overlap(self._histogram.half_bins, self._histogram.bin_ps)
        self.channels = self._histogram.channels
        n, half = len(self.channels), self._histogram.half_bins
        self._groups = max(1, min(_GROUPS, half // _GROUPS))
        self._segments = Segments(n + n * n * self._groups)
        edges = np.arange(-half, half + 1, dtype=np.int64) * int(bin_ps)
        edges.flags.writeable = False
        self.lag_edges_ps: NDArray[np.int64] = edges
        self._handover = Handover(self._copy)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def singles(self) -> dict[int, int]:
        """Tags by channel."""
        return self._histogram.singles

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        with self._handover.changing():
            for stretch in self._watermark.accept(block):
                self._take(stretch)

    def snapshot(self) -> CorrelationSnapshot:
        """A consistent copy of everything; it never holds up a thread that updates."""
        return self._handover.take()

    def counts(self, a: int, b: int) -> NDArray[np.int64]:
        """int64[2 * window_ps // bin_ps]: pairs by lag t_b - t_a. KeyError for a channel not watched."""
        return self.snapshot().counts(a, b)

    def g2(self, a: int, b: int, dead_time_ps: int = 0) -> G2:
        """Normalised correlation of a and b, see `CorrelationSnapshot.g2`."""
        return self.snapshot().g2(a, b, dead_time_ps)

    def _take(self, stretch: Stretch) -> None:
        self._overlap.extend(stretch.end_ps - stretch.begin_ps, stretch.continues)
        if not stretch.continues:
            self._histogram.restart()
        begin, done = stretch.begin_ps, 0
        while begin < stretch.end_ps:
            end = min(begin + self._segments.room_ps, stretch.end_ps)
            until = int(np.searchsorted(stretch.times_ps, end))
            self._histogram.feed(stretch.times_ps[done:until], stretch.channels[done:until])
            if self._segments.advance(end - begin):
                self._segments.close(self._totals())
            begin, done = end, until

    def _totals(self) -> NDArray[np.int64]:
        singles = list(self._histogram.singles.values())
        return np.concatenate([singles, self._histogram.group_sums(self._groups).ravel()])

    def _copy(self) -> CorrelationSnapshot:
        return CorrelationSnapshot(
            self.lag_edges_ps,
            self.live_time_ps,
            self._histogram.read(),
            self._overlap.seconds(),
            self._segments.increments,
        )
