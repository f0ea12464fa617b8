"""How counts fluctuate from stretch to stretch of a record: the noise that Poisson errors know nothing of.

A blinking or drifting source makes stretches differ by more than the square root of their counts. The record
is kept as 16 to 32 stretches of equal live time; when there are 32 they are joined in pairs, so that memory
does not grow and a stretch becomes longer than the blinking. Fluctuations slower than the stretches are seen
only in part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST = 32
_FEWEST = 8
_FIRST_PS = 10**9


class Segments:
    """Increments of a few running totals over stretches of equal live time, int64[n, size]."""

    def __init__(self, size: int) -> None:
        self.length_ps = _FIRST_PS
        self._increments = np.zeros((_MOST, size), np.int64)
        self._last = np.zeros(size, np.int64)
        self._number = 0
        self._filled_ps = 0

    @property
    def room_ps(self) -> int:
        """Live time until the current stretch is complete; never 0."""
        return self.length_ps - self._filled_ps

    @property
    def increments(self) -> NDArray[np.int64]:
        """A copy of what the complete stretches added to each total."""
        return self._increments[: self._number].copy()

    def advance(self, live_ps: int) -> bool:
        """Let live time pass, at most `room_ps`; whether the stretch is complete and wants `close`."""
        self._filled_ps += live_ps
        return self._filled_ps == self.length_ps

    def close(self, totals: NDArray[np.int64]) -> None:
        """End the current stretch with these running totals."""
        self._increments[self._number] = totals - self._last
        self._last = totals
        self._number += 1
        self._filled_ps = 0
        if self._number == _MOST:
            self._increments[: _MOST // 2] = self._increments[::2] + self._increments[1::2]
            self._number //= 2
            self.length_ps *= 2


def excess(pairs: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Relative standard error of pairs / (a b) beyond that of Poisson counts, float64[m].

    pairs: int64[n, m] by stretch and group of lags; a, b: int64[n] singles. The relative deviations of the
    numerator and both denominators are taken together: a bright stretch raises all three. Uncorrelated light
    of a steady rate gives 0 on average: the noise of its singles cancels that of its pairs.
    Zero where there are too few stretches or counts to tell.
    """
    n = len(pairs)
    totals = pairs.sum(axis=0)
    if n < _FEWEST or a.sum() == 0 or b.sum() == 0:
        return np.zeros(totals.shape)
    common = a / a.mean() + b / b.mean() - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = pairs * (n / totals) - common[:, np.newaxis]
        variance = (deviations**2).sum(axis=0) / (n * (n - 1)) - 1.0 / totals
    return np.where(totals > 0, np.sqrt(np.maximum(variance, 0.0)), 0.0)
