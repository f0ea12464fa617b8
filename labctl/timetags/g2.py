"""Normalised correlations: what pair counts say about g2, with exact Poisson intervals and true live time.

The expectation for uncorrelated light is R_a R_b times the time during which both tags of a pair could have
been recorded: for a live stretch of length L and a lag tau that is L - |tau|, averaged over the bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.6827


@dataclass(frozen=True)
class G2:
    """A normalised correlation; all arrays have one entry per bin except the edges.

    lag_edges_ps: int64[n + 1]. values: g2, NaN where nothing could have been counted.
    error_low, error_high: positive half-widths of the exact (Garwood) 68.3 % interval.
    counts: int64[n] pairs. expected: pairs that uncorrelated light of the same rates would give.
    """

    lag_edges_ps: NDArray[np.int64]
    values: NDArray[np.float64]
    error_low: NDArray[np.float64]
    error_high: NDArray[np.float64]
    counts: NDArray[np.int64]
    expected: NDArray[np.float64]


def garwood(
    counts: NDArray[np.int64], confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper limit of the exact central interval of a Poisson mean.

    Source: F. Garwood, Biometrika 28, 437 (1936).
    """
    from scipy.special import gammaincinv

    n = np.asarray(counts, dtype=np.float64)
    tail = 0.5 * (1.0 - confidence)
    lower = np.where(n > 0, gammaincinv(np.maximum(n, 1.0), tail), 0.0)
    return lower, gammaincinv(n + 1.0, 1.0 - tail)


def normalise(
    lag_edges_ps: NDArray[np.int64], counts: NDArray[np.int64], expected: NDArray[np.float64]
) -> G2:
    """Divide counts and their exact interval by the expectation; bins without expectation become NaN."""
    lower, upper = garwood(counts)
    scale = np.full(expected.shape, np.nan)
    np.divide(1.0, expected, out=scale, where=expected > 0)
    return G2(
        lag_edges_ps, counts * scale, (counts - lower) * scale, (upper - counts) * scale, counts, expected
    )


class Overlap:
    """Pair-live time per |lag| bin, summed over live stretches; a stretch grows while blocks continue it."""

    def __init__(self, half_bins: int, bin_ps: int) -> None:
        self._bin_ps = bin_ps
        self._inner_ps = bin_ps * np.arange(half_bins, dtype=np.float64)
        self._closed_ps = np.zeros(half_bins)
        self._open_ps = 0

    def extend(self, length_ps: int, continues: bool) -> None:
        """Add live time to the open stretch, or close it and open a new one."""
        if not continues:
            self._closed_ps += self._of(self._open_ps)
            self._open_ps = 0
        self._open_ps += length_ps

    def seconds(self) -> NDArray[np.float64]:
        """float64[2 * half_bins]: time in s during which a pair at each signed lag bin could be recorded."""
        positive = (self._closed_ps + self._of(self._open_ps)) * 1e-12
        return np.concatenate([positive[::-1], positive])

    def _of(self, length_ps: int) -> NDArray[np.float64]:
        rest = np.maximum(length_ps - self._inner_ps, 0.0)
        covered = np.minimum(rest, self._bin_ps)
        return covered * (rest - 0.5 * covered) / self._bin_ps
