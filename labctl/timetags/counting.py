"""Accumulators that only count: totals, intensity in fixed bins, intensity between sync tags."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.kernels import count_in_bins
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Stretch, Watermark, select, whole_ps


class Counts:
    """Number of tags per channel; tags inside gaps are not counted."""

    def __init__(self, channels: Sequence[int]) -> None:
        self.counts: dict[int, int] = {int(channel): 0 for channel in channels}
        self._watermark = Watermark()

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            for channel in self.counts:
                self.counts[channel] += int(np.count_nonzero(stretch.channels == channel))

    def rate(self, channel: int) -> float:
        """Mean rate in Hz over the live time; NaN before any time has passed."""
        if self.live_time_ps == 0:
            return float("nan")
        return self.counts[channel] / (self.live_time_ps * 1e-12)


class IntensityTrace:
    """Summed counts of `channels` in consecutive bins of bin_ps from the first block's begin.

    Wider bins come from `coarser`. Gaps keep their bins: a bin that a gap touches has counts only from its
    live part, see `live_ps`.
    """

    def __init__(self, channels: Sequence[int], bin_ps: int) -> None:
        self._selector = Selector(channels) if channels else None
        self._bin_ps = whole_ps("bin_ps", bin_ps)
        self._watermark = Watermark()
        self._counts, self._live = np.zeros(64, np.int64), np.zeros(64, np.int64)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def begin_ps(self) -> int:
        """Begin of the first bin; ValueError before the first block."""
        if self._watermark.begin_ps is None:
            raise ValueError("the trace has no begin yet: no block has been taken")
        return self._watermark.begin_ps

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[n]: counts of the bins that are over."""
        return self._counts[: self._complete()].copy()

    @property
    def live_ps(self) -> NDArray[np.int64]:
        """int64[n]: live time inside each bin that is over, in ps (bin_ps where there was no gap)."""
        return self._live[: self._complete()].copy()

    def coarser(self, factor: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts and live time, int64[n // factor] each, in complete bins `factor` times as wide."""
        if factor < 1:
            raise ValueError(f"factor must be 1 or more, got {factor}")
        n = self._complete() // factor * factor
        joined = self._counts[:n].reshape(-1, factor), self._live[:n].reshape(-1, factor)
        return joined[0].sum(axis=1), joined[1].sum(axis=1)

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            self._add(stretch)

    def _add(self, stretch: Stretch) -> None:
        first = (stretch.begin_ps - self.begin_ps) // self._bin_ps
        last = (stretch.end_ps - 1 - self.begin_ps) // self._bin_ps
        self._make_room(last + 1)
        if self._selector is not None:
            times, _ = self._selector.select(stretch.times_ps, stretch.channels)
            count_in_bins(times, self.begin_ps, self._bin_ps, self._counts)
        edges = self.begin_ps + self._bin_ps * np.arange(first, last + 2, dtype=np.int64)
        inside = np.clip(edges, stretch.begin_ps, stretch.end_ps)
        self._live[first : last + 1] += inside[1:] - inside[:-1]

    def _make_room(self, n_bins: int) -> None:
        if n_bins > self._counts.size:
            more = np.zeros(2 * n_bins - self._counts.size, np.int64)
            self._counts, self._live = np.append(self._counts, more), np.append(self._live, more)

    def _complete(self) -> int:
        if self._watermark.end_ps is None:
            return 0
        n_bins = (self._watermark.end_ps - self.begin_ps) // self._bin_ps
        self._make_room(n_bins)
        return n_bins


class SyncedTrace:
    """Counts of `channels` between consecutive sync tags, for instance between mid-infrared pulses.

    An interval longer than 1.5 periods (a missed sync) or broken by a gap is left out and counted in
    `skipped`.
    """

    def __init__(self, channels: Sequence[int], sync: int, period_ps: int) -> None:
        self._channels, self._sync = tuple(channels), int(sync)
        self._period_ps = whole_ps("period_ps", period_ps)
        self._watermark = Watermark()
        self._begin: int | None = None
        self._since_begin = 0
        self._counts: list[NDArray[np.int32]] = []
        self._begins: list[NDArray[np.int64]] = []
        self.skipped = 0

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def counts(self) -> NDArray[np.int32]:
        """int32[n]: counts in each reported interval [sync_k, sync_k+1)."""
        return np.concatenate([np.empty(0, np.int32), *self._counts])

    @property
    def begins_ps(self) -> NDArray[np.int64]:
        """int64[n]: sync_k of each reported interval."""
        return np.concatenate([np.empty(0, np.int64), *self._begins])

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._break()
            self._add(stretch)

    def _break(self) -> None:
        if self._begin is not None:
            self.skipped += 1
        self._begin = None

    def _add(self, stretch: Stretch) -> None:
        syncs = select(stretch, [self._sync])
        photons = select(stretch, self._channels)
        if self._begin is None:
            if syncs.size == 0:
                return
            photons = photons[np.searchsorted(photons, syncs[0]) :]
            self._begin, self._since_begin, syncs = int(syncs[0]), 0, syncs[1:]
        before = np.searchsorted(photons, syncs)
        counts = np.diff(before, prepend=0)
        if syncs.size == 0:
            self._since_begin += photons.size
            return
        counts[0] += self._since_begin
        begins = np.concatenate([[self._begin], syncs[:-1]]).astype(np.int64)
        kept = 2 * (syncs - begins) <= 3 * self._period_ps
        self._counts.append(counts[kept].astype(np.int32))
        self._begins.append(begins[kept])
        self.skipped += int(np.count_nonzero(~kept))
        self._begin, self._since_begin = int(syncs[-1]), int(photons.size - before[-1])
