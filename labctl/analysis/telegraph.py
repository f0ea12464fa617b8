"""The kicked telegraph as a hidden Markov model of photon counts.

A dot jumps between X (state 0) and T (state 1) at any time, not only at bin borders, and each state has its
count rate. The joint probability of the counts of an interval and its end state follows exactly from the
generating function expm((Q + diag(rates)(z - 1)) T) at roots of unity. A kick at the start of an interval
is one more 2x2 matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy.stats import chi2

from labctl.analysis.errors import AnalysisError

NO_KICK = -1
_FLOOR = 1e-16  # rounding of the transform; below it an emission probability says only "never"
_CHUNKS = 20


@dataclass(frozen=True)
class TelegraphRates:
    """Count rates (1/s) in X and T, charging and neutralisation rate (1/s)."""

    rate_x: float
    rate_t: float
    k_c: float
    k_d: float


@dataclass(frozen=True)
class TelegraphData:
    """Counts of consecutive intervals of one length, block after block.

    counts: int64[n]; kicks: int64[n], class of the kick at the start of each interval, NO_KICK without one;
    offsets: int64[blocks + 1], first interval of each block. The charge state is not carried from block to
    block.
    """

    counts: np.ndarray
    kicks: np.ndarray
    offsets: np.ndarray
    interval_s: float
    classes: int

    @classmethod
    def from_blocks(
        cls, blocks: Sequence[ArrayLike], kicks: Sequence[ArrayLike | int], interval_s: float
    ) -> TelegraphData:
        """Join blocks of counts; `kicks` gives each block one class, or an array of classes."""
        arrays = [np.asarray(block, np.int64).ravel() for block in blocks]
        if not arrays or min(a.size for a in arrays) == 0:
            raise AnalysisError("telegraph: every block needs at least one interval")
        if min(int(a.min()) for a in arrays) < 0 or interval_s <= 0.0:
            raise AnalysisError("telegraph: counts must be >= 0 and the interval positive")
        classes = [
            np.broadcast_to(np.asarray(k, np.int64), a.shape) for a, k in zip(arrays, kicks, strict=True)
        ]
        offsets = np.concatenate([[0], np.cumsum([a.size for a in arrays])]).astype(np.int64)
        joined = np.concatenate(classes)
        return cls(np.concatenate(arrays), joined, offsets, float(interval_s), int(joined.max()) + 1)


@dataclass(frozen=True)
class GoodnessOfFit:
    """Two chi-squares of one-step predictions: the count histogram, and the total of each stretch of time."""

    chi2_counts: float
    dof_counts: int
    chi2_time: float
    dof_time: int

    @property
    def p_value(self) -> float:
        """Smaller of the two tail probabilities, times two for having looked twice."""
        tails = chi2.sf([self.chi2_counts, self.chi2_time], [self.dof_counts, self.dof_time])
        return float(min(1.0, 2.0 * tails.min()))


def emission_table(rates: TelegraphRates, interval_s: float, n_max: int) -> np.ndarray:
    """float64[n_max + 1, 2, 2]: P(n counts, end state | start state), indexed [n, start, end]."""
    rate_x, rate_t, k_c, k_d = rates.rate_x, rates.rate_t, rates.k_c, rates.k_d
    top = max(rate_x, rate_t, 0.0) * interval_s
    size = 1 << int(np.ceil(np.log2(max(n_max + 1, top + 10.0 * np.sqrt(top) + 32.0))))
    u = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size) - 1.0
    mean = 0.5 * ((rate_x + rate_t) * u - k_c - k_d)
    half = 0.5 * ((rate_x - rate_t) * u - k_c + k_d)
    root = np.sqrt(half * half + k_c * k_d + 1e-12)
    slow, fast = np.exp((mean + root) * interval_s), np.exp((mean - root) * interval_s)
    c, s = 0.5 * (slow + fast), 0.5 * (slow - fast) / root
    generating = np.stack([c + s * half, s * k_c, s * k_d, c - s * half])
    table = np.fft.irfft(generating, size)[:, : n_max + 1].T
    return np.ascontiguousarray(np.maximum(table, _FLOOR).reshape(-1, 2, 2))


def kick_matrices(p_d: float, c: ArrayLike) -> np.ndarray:
    """float64[classes + 1, 2, 2]: kick of each class (T->X with p_d, X->T with c), last the identity."""
    c = np.atleast_1d(np.asarray(c, float))
    kicks = np.empty((c.size + 1, 2, 2))
    kicks[:-1, 0, 0], kicks[:-1, 0, 1] = 1.0 - c, c
    kicks[:-1, 1] = p_d, 1.0 - p_d
    kicks[-1] = np.eye(2)
    return kicks


def log_likelihood(data: TelegraphData, rates: TelegraphRates, p_d: float, c: ArrayLike) -> float:
    """Exact log-likelihood; every block starts from even odds, which the first intervals settle.

    p_d: probability that a kick discharges the charged dot; c: that it charges the neutral one, one value per
    kick class (or one for all). Both are probabilities, 0..1.
    """
    return float(_forward(data.counts, data.kicks, data.offsets, _steps(data, rates, p_d, c)))


def goodness_of_fit(
    data: TelegraphData, rates: TelegraphRates, p_d: float, c: ArrayLike, fitted: int
) -> GoodnessOfFit:
    """Compare counts with their one-step predictions.

    Predictions given the past have independent errors even though a blinking dot's counts do not, so sums
    of them have an exact covariance. `fitted` parameters are taken off the degrees of freedom of the
    histogram.
    """
    edges = _bin_edges(data.counts)
    bin_of = np.searchsorted(edges, np.arange(int(data.counts.max()) + 1), side="right") - 1
    bins = len(edges)
    steps = _steps(data, rates, p_d, c)
    grouped = np.zeros((steps.shape[0], bins, 2, 2))
    for n, b in enumerate(bin_of):
        grouped[:, b] += steps[:, n]
    kick = kick_matrices(p_d, _per_class(c, data.classes))
    # the last bin holds whatever is in no lower one, so that predictions add up to one
    grouped[:, -1] = kick @ _end(rates, data.interval_s) - grouped[:, :-1].sum(axis=1)
    levels = kick @ _mean_counts(rates, data.interval_s)
    chunk = max(1, data.counts.size // _CHUNKS + 1)
    excess, covariance, time_sum, time_variance = _predict(
        data.counts, data.kicks, data.offsets, steps, grouped, levels, bin_of, chunk
    )
    dof = int(np.linalg.matrix_rank(covariance, tol=1e-9 * np.trace(covariance), hermitian=True))
    chi2_counts = float(excess @ np.linalg.pinv(covariance, rcond=1e-9, hermitian=True) @ excess)
    used = time_variance > 0.0
    chi2_time = float(np.sum(time_sum[used] ** 2 / time_variance[used]))
    return GoodnessOfFit(chi2_counts, max(dof - fitted, 1), chi2_time, max(int(used.sum()) - 2, 1))


def two_levels(counts: ArrayLike) -> tuple[float, float, float, float]:
    """A mixture of two Poissons: low mean, high mean, weight of the low one, log-likelihood gain over one."""
    values, weight = np.unique(np.asarray(counts, np.int64), return_counts=True)
    total = weight.sum()
    mean = float(values @ weight / total)
    if mean <= 0.0:
        raise AnalysisError(
            "telegraph: no counts at all; check that the light is on and the right channels are read"
        )
    spread = np.sqrt(max(float((values - mean) ** 2 @ weight / total), mean))
    best = (-np.inf, mean, mean, 0.5)
    for start_low, start_high, start_share in ((0.25, 1.1, 0.1), (0.7, 2.5, 0.8), (0.5, 1.3, 0.4)):
        low, high, share = start_low * mean, start_high * mean + 0.1 * spread, start_share
        for _ in range(150):
            gap = values * np.log(high / low) - (high - low) + np.log((1.0 - share) / share)
            is_low = 1.0 / (1.0 + np.exp(np.clip(gap, -700.0, 700.0)))
            n_low = np.clip(is_low @ weight, 1e-9, total - 1e-9)
            share = np.clip(n_low / total, 1e-9, 1.0 - 1e-9)
            low = max(float((is_low * values) @ weight / n_low), 1e-6)
            high = max(float(((1.0 - is_low) * values) @ weight / (total - n_low)), 1e-6)
        gain = float(
            np.logaddexp(
                np.log(share) + values * np.log(low / mean) - low + mean,
                np.log1p(-share) + values * np.log(high / mean) - high + mean,
            )
            @ weight
        )
        if gain > best[0]:
            best = (gain, low, high, float(share))
    gain, low, high, share = best
    return (low, high, share, gain) if low <= high else (high, low, 1.0 - share, gain)


def _per_class(c: ArrayLike, classes: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(c, float), (classes,))


def _steps(data: TelegraphData, rates: TelegraphRates, p_d: float, c: ArrayLike) -> np.ndarray:
    """float64[classes + 1, n_max + 1, 2, 2]: kick and interval in one; class NO_KICK = -1 picks the last."""
    table = emission_table(rates, data.interval_s, int(data.counts.max()))
    return np.ascontiguousarray(kick_matrices(p_d, _per_class(c, data.classes))[:, None] @ table)


def _end(rates: TelegraphRates, interval_s: float) -> np.ndarray:
    """Transition matrix of the free telegraph over one interval."""
    total = rates.k_c + rates.k_d
    moved = -np.expm1(-total * interval_s) / total if total > 0.0 else interval_s
    return np.array(
        [[1.0 - rates.k_c * moved, rates.k_c * moved], [rates.k_d * moved, 1.0 - rates.k_d * moved]]
    )


def _mean_counts(rates: TelegraphRates, interval_s: float) -> np.ndarray:
    """float64[2]: mean counts of an interval by start state."""
    total = rates.k_c + rates.k_d
    x = total * interval_s
    share = (x + np.expm1(-x)) / (x * x) if x > 1e-6 else 0.5 - x / 6.0
    change = (rates.rate_x - rates.rate_t) * interval_s**2 * share
    mean_x, mean_t = rates.rate_x * interval_s, rates.rate_t * interval_s
    return np.array([mean_x - rates.k_c * change, mean_t + rates.k_d * change])


def _bin_edges(counts: np.ndarray) -> np.ndarray:
    """First count of each of about a dozen bins with at least 25 entries over the range that occurs."""
    histogram = np.bincount(counts)
    wanted = max(25.0, counts.size / 400.0)
    edges, filled = [0], 0
    for n, entries in enumerate(histogram):
        if filled >= wanted and n - edges[-1] >= max(1, histogram.size // 24):
            edges.append(n)
            filled = 0
        filled += int(entries)
    if filled < 25 and len(edges) > 1:
        edges.pop()
    return np.array(edges)


@njit(cache=True, nogil=True)
def _forward(counts: np.ndarray, kicks: np.ndarray, offsets: np.ndarray, steps: np.ndarray) -> float:
    total = 0.0
    last = steps.shape[0] - 1
    for block in range(offsets.size - 1):
        x, t = 0.5, 0.5
        for i in range(offsets[block], offsets[block + 1]):
            m = steps[kicks[i] if kicks[i] >= 0 else last, counts[i]]
            x, t = x * m[0, 0] + t * m[1, 0], x * m[0, 1] + t * m[1, 1]
            norm = x + t
            if norm < 1e-150:  # divide now and then, not every step
                total += np.log(norm)
                x, t = x / norm, t / norm
        total += np.log(x + t)
    return total


@njit(cache=True, nogil=True)
def _predict(
    counts: np.ndarray, kicks: np.ndarray, offsets: np.ndarray, steps: np.ndarray, grouped: np.ndarray,
    levels: np.ndarray, bin_of: np.ndarray, chunk: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    bins = grouped.shape[1]
    excess, covariance = np.zeros(bins), np.zeros((bins, bins))
    stretches = counts.size // chunk + 1
    time_sum, time_variance = np.zeros(stretches), np.zeros(stretches)
    expected = np.zeros(bins)
    last = steps.shape[0] - 1
    for block in range(offsets.size - 1):
        x, t = 0.5, 0.5
        for i in range(offsets[block], offsets[block + 1]):
            g = kicks[i] if kicks[i] >= 0 else last
            if i >= offsets[block] + 8:  # the even odds at the start of a block are no prediction
                for b in range(bins):
                    q = grouped[g, b]
                    expected[b] = x * (q[0, 0] + q[0, 1]) + t * (q[1, 0] + q[1, 1])
                    excess[b] -= expected[b]
                    covariance[b, b] += expected[b]
                excess[bin_of[counts[i]]] += 1.0
                for b in range(bins):
                    for d in range(bins):
                        covariance[b, d] -= expected[b] * expected[d]
                residual = counts[i] - x * levels[g, 0] - t * levels[g, 1]
                time_sum[i // chunk] += residual
                time_variance[i // chunk] += residual * residual
            m = steps[g, counts[i]]
            new_x = x * m[0, 0] + t * m[1, 0]
            norm = new_x + x * m[0, 1] + t * m[1, 1]
            x, t = new_x / norm, 1.0 - new_x / norm
    return excess, covariance, time_sum, time_variance
