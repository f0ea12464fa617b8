"""Start-stop histograms: for every start only the first stop, as a time-to-amplitude converter sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.stream import Stretch, Watermark, whole_ps


class StartStop:
    """Lags from each start to the first stop at or after it, in bins of bin_ps over [0, window_ps).

    Biased: a stop hides all later ones, so that for uncorrelated light of stop rate R the histogram falls as
    exp(-R lag) where the correlation is flat, and a dip after a maximum is filled or exaggerated. The bias is
    below 1 % only while R times window is below 0.01; `Correlation` has none. `unbiased` undoes it, at the
    price of larger errors at long lags.

    `counts`: int64[n]. `starts`: number of starts whose fate is known, with or without a stop in the window.
    ValueError for a window that is not a multiple of the bin and for a single channel.
    """

    def __init__(self, start: int, stop: int, window_ps: int = 100_000, bin_ps: int = 1_000) -> None:
        self._window, self._bin = whole_ps("window_ps", window_ps), whole_ps("bin_ps", bin_ps)
        if self._window % self._bin:
            raise ValueError(f"window_ps ({window_ps}) must be a multiple of bin_ps ({bin_ps})")
        if start == stop:
            raise ValueError(f"start and stop are both channel {start}")
        self._start, self._stop = int(start), int(stop)
        self.lag_edges_ps: NDArray[np.int64] = np.arange(0, self._window + 1, self._bin, dtype=np.int64)
        self._counts = np.zeros(self.lag_edges_ps.size - 1, np.int64)
        self.starts = 0
        self._watermark = Watermark()
        self._waiting = np.empty(0, np.int64)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[window_ps // bin_ps]: first stops by lag."""
        return self._counts.copy()

    @property
    def unbiased(self) -> NDArray[np.float64]:
        """float64[n]: mean number of stops per start in each bin, hidden ones included; NaN behind the last.

        Source: P. B. Coates, J. Phys. E 1, 878 (1968), for light whose stops are Poisson at each lag.
        """
        before = np.concatenate([[0], np.cumsum(self._counts)[:-1]])
        at_risk = (self.starts - before).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = np.where(at_risk > 0, self._counts / at_risk, np.nan)
            return np.where(seen < 1.0, -np.log1p(-seen), np.nan)

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._waiting = np.empty(0, np.int64)
            self._add(stretch)

    def _add(self, stretch: Stretch) -> None:
        stops = stretch.times_ps[stretch.channels == self._stop]
        starts = np.concatenate([self._waiting, stretch.times_ps[stretch.channels == self._start]])
        position = np.searchsorted(stops, starts)
        has_stop = position < stops.size
        waits = ~has_stop & (starts > stretch.end_ps - self._window)
        self._waiting = starts[waits]
        self.starts += starts.size - self._waiting.size
        lags = stops[position[has_stop]] - starts[has_stop]
        lags = lags[lags < self._window]
        self._counts += np.bincount(lags // self._bin, minlength=self._counts.size)
