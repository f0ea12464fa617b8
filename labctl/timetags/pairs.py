"""Lag histograms of all ordered pairs of channels, exact at every bin edge, fed slice by slice.

Each pair of tags is met once, with the later tag first. Distances that lie exactly on a bin edge have cells
of their own, so that what the pair contributes to negative lags, whose bins close at the other end, follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.pair_kernels import SHIFT, feed_pairs
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import whole_ps

_ROOM = 1 << 14
_MAX_WINDOW_PS = 1 << 62
_MAX_CELLS = (1 << 31) - 1


@dataclass(frozen=True)
class PairCounts:
    """A copy of what a `PairHistogram` held; nothing changes it any more.

    cells: int64[C, C, 2 * window / bin + 1] by [later, earlier, distance]; even distances lie on bin edges.
    singles: tags by channel.
    """

    channels: tuple[int, ...]
    cells: NDArray[np.int64]
    singles: dict[int, int]

    def counts(self, a: int, b: int) -> NDArray[np.int64]:
        """int64[2 * window_ps // bin_ps]: pairs by lag t_b - t_a. KeyError for a channel not watched."""
        i, j = self.position(a), self.position(b)
        after, before = self.cells[j, i], self.cells[i, j]
        positive = after[:-1:2] + after[1::2]
        # simultaneous tags were met in one order; both count at lag 0
        positive[0] += before[0]
        # bin k of positive lags holds [k, k + 1), the mirrored negative bin needs (k, k + 1]
        negative = before[1::2] + before[2::2]
        return np.concatenate([negative[::-1], positive])

    def position(self, channel: int) -> int:
        """Index of a channel in the first two axes of `cells`; KeyError for a channel not watched."""
        if channel not in self.channels:
            raise KeyError(f"channel {channel} is not correlated here; channels: {list(self.channels)}")
        return self.channels.index(channel)


class PairHistogram:
    """Lag histograms of all ordered pairs of `channels`, over lags [-window_ps, window_ps) in bins of bin_ps.

    `singles` counts the tags of each channel. ValueError for a window that is not a multiple of the bin
    and for unusable channel lists.
    """

    def __init__(self, channels: Sequence[int], window_ps: int, bin_ps: int) -> None:
        self.window_ps, self.bin_ps = whole_ps("window_ps", window_ps), whole_ps("bin_ps", bin_ps)
        if self.window_ps > _MAX_WINDOW_PS:
            raise ValueError(f"window_ps ({window_ps}) must not exceed {_MAX_WINDOW_PS} ps")
        if self.window_ps % self.bin_ps:
            raise ValueError(f"window_ps ({window_ps}) must be a multiple of bin_ps ({bin_ps})")
        self.half_bins = self.window_ps // self.bin_ps
        self._per_pair = 2 * self.half_bins + 1
        self._selector = Selector(channels, self._per_pair)
        self.channels = self._selector.channels
        n_cells = len(self.channels) ** 2 * self._per_pair
        if n_cells >= _MAX_CELLS:
            raise ValueError(
                f"{len(self.channels)} channels with {2 * self.half_bins} bins per pair are too many to hold "
                "in memory: use fewer channels or wider bins"
            )
        self._cells = np.zeros(n_cells + 1, np.int64)  # the last takes what the kernel does not count
        self._singles = np.zeros(len(self.channels), np.int64)
        self._times, self._codes, self._stop = np.zeros(_ROOM, np.int64), np.zeros(_ROOM, np.int32), 1

    @property
    def singles(self) -> dict[int, int]:
        """Tags by channel."""
        return dict(zip(self.channels, self._singles.tolist(), strict=True))

    def restart(self) -> None:
        """Forget the tags carried over, so that no pair is formed across a break."""
        self._stop = 1

    def feed(self, times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> None:
        """Add tags that follow all earlier ones; pairs with the tags carried over are counted."""
        self._times, self._codes, self._stop = feed_pairs(
            times_ps,
            channels,
            self._selector.lookup,
            self._selector.lowest,
            self.window_ps,
            self.bin_ps,
            multiplier(self.window_ps, self.bin_ps),
            self._times,
            self._codes,
            self._stop,
            self._singles,
            self._cells,
        )

    def group_sums(self, n_groups: int) -> NDArray[np.int64]:
        """int64[C, C, n_groups]: counts by [later, earlier] in groups of neighbouring distances."""
        n = len(self.channels)
        starts = 2 * (-(-np.arange(n_groups) * self.half_bins // n_groups))
        return np.add.reduceat(self._cells[:-1].reshape(n, n, self._per_pair), starts, axis=-1)

    def read(self) -> PairCounts:
        """A copy of all counts."""
        n = len(self.channels)
        cells = self._cells[:-1].reshape(n, n, self._per_pair).copy()
        cells.flags.writeable = False
        return PairCounts(self.channels, cells, self.singles)


def multiplier(window_ps: int, bin_ps: int) -> int:
    """Factor m so that (d * m) >> SHIFT is d // bin_ps for all 0 <= d <= window_ps; 0: there is none."""
    exact = window_ps * bin_ps < 1 << SHIFT and window_ps // bin_ps < 1 << 20
    return (1 << SHIFT) // bin_ps + 1 if exact else 0
