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
    error_low, error_high: positive half-widths of the 68.3 % interval: the exact (Garwood) one of the counts,
    and in quadrature with it the fluctuations of the source, see `excess`.
    counts: int64[n] pairs. expected: pairs that uncorrelated light of the same rates would give.
    excess: relative standard error due to blinking and drift, as seen between stretches of the record.
    """

    lag_edges_ps: NDArray[np.int64]
    values: NDArray[np.float64]
    error_low: NDArray[np.float64]
    error_high: NDArray[np.float64]
    counts: NDArray[np.int64]
    expected: NDArray[np.float64]
    excess: NDArray[np.float64]

    def score_pull(self, truth: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """(counts - expected at `truth`) / standard deviation at the truth: well behaved at few counts.

        NaN where nothing could have been counted.
        """
        mean = np.where(self.expected > 0, truth * self.expected, np.nan)
        return (self.counts - mean) / np.sqrt(mean + (mean * self.excess) ** 2)


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
    lag_edges_ps: NDArray[np.int64],
    counts: NDArray[np.int64],
    expected: NDArray[np.float64],
    excess: NDArray[np.float64] | float = 0.0,
) -> G2:
    """Divide counts and their interval by the expectation; bins without expectation become NaN."""
    lower, upper = garwood(counts)
    scale = np.full(expected.shape, np.nan)
    np.divide(1.0, expected, out=scale, where=expected > 0)
    fluctuation = np.broadcast_to(np.asarray(excess, np.float64), counts.shape)
    return G2(
        lag_edges_ps,
        counts * scale,
        np.hypot(counts - lower, counts * fluctuation) * scale,
        np.hypot(upper - counts, counts * fluctuation) * scale,
        counts,
        expected,
        fluctuation,
    )


def edge_noise(seen: NDArray[np.float64], n_a: int, n_b: int) -> NDArray[np.float64]:
    """Relative standard error of g2 because some tags lie too near the ends of a stretch to find a partner.

    seen: float64[n], part of the live time in which a pair at that lag could be recorded. The expectation
    takes the mean number of such tags; how many there were fluctuates (the variance of a binomial share).
    """
    if n_a == 0 or n_b == 0:
        return np.zeros(seen.shape)
    lost = np.clip(1.0 - seen, 0.0, 1.0)
    return np.sqrt(lost / np.maximum(seen, 1e-12) * (1.0 / n_a + 1.0 / n_b))


def renewal_pairs(edges_ps: NDArray[np.int64], rate_hz: float, dead_time_ps: int) -> NDArray[np.float64]:
    """Mean number of later tags per tag in each lag bin [edge, next edge), for a detector with a dead time.

    Poisson light behind a non-paralysable dead time, seen at `rate_hz`: tag k after a given one comes after k
    dead times and k exponential waits. float64[n]; without a dead time this is rate_hz times the bin width.
    Source: J. W. Muller, Nucl. Instrum. Meth. 112, 47 (1973).
    """
    from scipy.special import gammainc

    edges_s, dead_s = edges_ps * 1e-12, dead_time_ps * 1e-12
    if rate_hz * dead_s >= 1.0:
        raise ValueError(f"a rate of {rate_hz:.4g} Hz is impossible with a dead time of {dead_time_ps} ps")
    open_rate = rate_hz / (1.0 - rate_hz * dead_s)
    passed = np.zeros(edges_s.shape)
    order = 1
    while True:
        waits = np.maximum(edges_s - order * dead_s, 0.0)
        term = gammainc(order, open_rate * waits)
        passed += term
        if term.max(initial=0.0) < 1e-12:
            return np.diff(passed)
        order += 1


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
