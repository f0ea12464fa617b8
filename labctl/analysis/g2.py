"""g2 at zero delay from coincidence histograms, by Poisson likelihood with the background in the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx

from labctl.analysis.errors import AnalysisError
from labctl.analysis.estimate import Estimate
from labctl.analysis.likelihood import MaximumLikelihood, Parameter, maximise


@dataclass(frozen=True)
class Background:
    """Rate (1/s) of uncorrelated counts in one channel, and its standard error."""

    rate_hz: float
    error_hz: float = 0.0


@dataclass(frozen=True)
class PulsedG2:
    """Result of `fit_pulsed_g2`.

    corrected, raw: centre over near side peaks, with and without subtraction of background coincidences.
    upper_limit_95: one-sided limit, given when the corrected value is consistent with zero.
    far, beta: centre over far peaks and bunching amplitude of this run, None without far peaks. Their
    errors are those
    of counting: they describe the charge trajectory that the run had.
    """

    corrected: Estimate
    raw: Estimate
    upper_limit_95: float | None
    far: Estimate | None
    beta: Estimate | None
    centre_counts: int
    side_counts: int
    side_peaks: int
    accidentals: float
    accidentals_error: float

    def score_pull(self, truth: float) -> float:
        """(N0 - expected) / standard deviation at the true g: well behaved at a handful of counts."""
        per_side = self.side_counts / self.side_peaks
        signal = per_side - self.accidentals
        difference = self.centre_counts - truth * signal - self.accidentals
        variance = (
            truth * signal
            + self.accidentals
            + truth**2 * per_side / self.side_peaks
            + (1.0 - truth) ** 2 * self.accidentals_error**2
        )
        return float(difference / np.sqrt(variance))


def fit_pulsed_g2(
    lags: ArrayLike,
    counts: ArrayLike,
    singles_a: int,
    singles_b: int,
    background_a: Background,
    background_b: Background,
    live_time_s: float,
    period_s: float,
    near: int = 10,
    far_from: int | None = None,
) -> PulsedG2:
    """Fit coincidences between two channels counted by pulse number.

    lags, counts: int[n], difference of pulse numbers and coincidences there (whole pulse periods, so no
    side peak leaks into another). singles_a, singles_b: counts of the channels in `live_time_s`. near: side
    peaks 1..near on both sides.
    far_from: peaks at this lag and beyond, longer than the blinking time, give the far normalisation.
    Model: N0 ~ Poisson(g S + b), N_side ~ Poisson(S + b), b = T t (D_A R_B + D_B R_A - D_A D_B) under its
    own error.
    Raises AnalysisError without a centre peak, side peaks or side counts above background.
    """
    lags, counts = np.asarray(lags, np.int64), np.asarray(counts, np.int64)
    is_near = (lags != 0) & (np.abs(lags) <= near)
    if np.count_nonzero(lags == 0) != 1 or not is_near.any() or live_time_s <= 0.0:
        raise AnalysisError("pulsed g2: needs one centre peak, near side peaks and a live time")
    centre, side, peaks = int(counts[lags == 0][0]), int(counts[is_near].sum()), int(is_near.sum())
    rate_a, rate_b = singles_a / live_time_s, singles_b / live_time_s
    d_a, d_b = background_a.rate_hz, background_b.rate_hz
    per_rate = period_s * live_time_s
    b = per_rate * (d_a * rate_b + d_b * rate_a - d_a * d_b)
    b_error = per_rate * float(
        np.hypot((rate_b - d_b) * background_a.error_hz, (rate_a - d_a) * background_b.error_hz)
    )
    if side / peaks <= b or side == 0:
        raise AnalysisError(
            f"pulsed g2: {side} side-peak counts are within the background of {peaks * b:.3g}; measure longer"
        )
    corrected, maximum = _ratio("g2_zero", centre, 1, side, peaks, b, b_error, False)
    raw, _ = _ratio("g2_zero", centre, 1, side, peaks, 0.0, 0.0, True)
    consistent = 2.0 * (maximum.profile("ratio", 0.0) - maximum.nll) < 3.84
    limit = maximum.interval("ratio", rise=0.5 * 2.706)[1] if consistent else None
    far = beta = None
    if far_from is not None:
        is_far = np.abs(lags) >= far_from
        far_counts, far_peaks = int(counts[is_far].sum()), int(is_far.sum())
        if far_peaks == 0 or far_counts / far_peaks <= b:
            raise AnalysisError("pulsed g2: no counts above background in the far peaks")
        far, _ = _ratio("g2_zero_far", centre, 1, far_counts, far_peaks, b, b_error, False)
        near_over_far, _ = _ratio("beta", side, peaks, far_counts, far_peaks, b, b_error, False)
        beta = replace(near_over_far, quantity="beta", value=near_over_far.value - 1.0)
    return PulsedG2(corrected, raw, limit, far, beta, centre, side, peaks, b, b_error)


def cw_g2_zero(
    lag_edges_ps: ArrayLike,
    counts: ArrayLike,
    jitter_s: float,
    signal_fraction_a: float = 1.0,
    signal_fraction_b: float = 1.0,
) -> dict[str, Estimate]:
    """g2(0) and dip time under continuous light, by binned Poisson likelihood.

    lag_edges_ps: [n + 1]; counts: [n]; jitter_s: rms of one detector; signal fractions: share of each
    channel's counts that is light of the dot. Model: B [1 - rho_a rho_b (1 - g2) exp(-|t|/t_c) *
    Gauss(sqrt(2) jitter)], averaged over each bin. Returns g2_zero and t_c (s). Raises AnalysisError when
    there are too few counts or no dip.
    """
    edges, n = np.asarray(lag_edges_ps, float) * 1e-12, np.asarray(counts, float)
    if edges.size != n.size + 1 or n.size < 5 or n.sum() < 20:
        raise AnalysisError("cw g2: needs at least five bins with edges around them and 20 coincidences")
    rho, sigma = signal_fraction_a * signal_fraction_b, np.sqrt(2.0) * jitter_s
    nodes, weights = np.polynomial.legendre.leggauss(4)
    width = np.diff(edges)
    lag = 0.5 * (edges[:-1] + edges[1:])[:, None] + 0.5 * width[:, None] * nodes

    def nll(v: np.ndarray) -> float:
        shape = _blurred_decay(lag, v[1], sigma) @ weights * 0.5
        mean = v[2] * width / width.mean() * (1.0 - rho * (1.0 - v[0]) * shape)
        mean = np.maximum(mean, 1e-12)
        return float(np.sum(mean - n * np.log(mean)))

    span = float(edges[-1] - edges[0])
    level = float(n.mean())
    tau = min((0.01 * span, 0.03 * span, 0.1 * span), key=lambda t: nll(np.array([0.2, t, level])))
    maximum = maximise(
        nll,
        {
            "g2_zero": Parameter(0.2, 0.05, (0.0, 3.0)),
            "t_c": Parameter(tau, 0.1 * tau, (float(width.min()) * 0.1, 0.5 * span)),
            "level": Parameter(level, 0.02 * level, (0.0, None)),
        },
        "cw g2",
    )
    found = {}
    for name, unit in (("g2_zero", ""), ("t_c", "s")):
        low, high = maximum.interval(name)
        value = maximum.values[name]
        if high is None or (low is None and name == "t_c"):
            raise AnalysisError(
                "cw g2: the histogram shows no dip at zero lag; measure longer or use finer bins"
            )
        low = 0.0 if low is None else low
        found[name] = Estimate(
            name, value, value - low, high - value, unit, "binned Poisson likelihood, profile", int(n.sum())
        )
    return found


def _blurred_decay(lag: np.ndarray, t_c: float, sigma: float) -> np.ndarray:
    """exp(-|t|/t_c) convolved with a Gaussian of rms sigma, in a form that does not overflow."""
    if sigma <= 0.0:
        return np.exp(-np.abs(lag) / t_c)
    t, s = np.abs(lag) / sigma, sigma / t_c
    gauss = np.exp(-0.5 * t * t)
    near = (s - t) / np.sqrt(2.0)
    # erfcx(-x) = 2 exp(x^2) - erfcx(x) keeps the far tail finite
    rising = np.where(
        near > 0.0,
        gauss * erfcx(np.maximum(near, 0.0)),
        2.0 * np.exp(0.5 * s * s - s * t) - gauss * erfcx(np.maximum(-near, 0.0)),
    )
    return 0.5 * (rising + gauss * erfcx((s + t) / np.sqrt(2.0)))


def _ratio(
    name: str, top: int, top_peaks: int, bottom: int, bottom_peaks: int, b: float, b_error: float, raw: bool
) -> tuple[Estimate, MaximumLikelihood]:
    """Ratio >= 0 of two peak groups above the background b per peak, by Poisson likelihood."""

    def nll(v: np.ndarray) -> float:
        ratio, signal, background = v
        upper = max(top_peaks * (ratio * signal + background), 1e-12)
        lower = max(bottom_peaks * (signal + background), 1e-12)
        penalty = 0.5 * ((background - b) / b_error) ** 2 if b_error > 0.0 else 0.0
        return float(upper - top * np.log(upper) + lower - bottom * np.log(lower) + penalty)

    signal = bottom / bottom_peaks - b
    start = max((top / top_peaks - b) / signal, 0.1 / (signal * top_peaks))
    parameters = {
        "ratio": Parameter(start, np.sqrt(top + 1.0) / (top_peaks * signal), (0.0, None)),
        "signal": Parameter(signal, np.sqrt(bottom) / bottom_peaks, (0.0, None)),
        "background": Parameter(b, b_error or 1.0, (0.0, None), fixed=b_error == 0.0),
    }
    maximum = maximise(nll, parameters, name)
    low, high = maximum.interval("ratio")
    value = maximum.values["ratio"]
    if high is None:
        raise AnalysisError(f"{name}: the likelihood has no upper end; measure longer")
    low = 0.0 if low is None else low
    method = "peak counts, Poisson likelihood, profile" + ("" if raw else ", background corrected")
    return Estimate(name, value, value - low, high - value, "", method, top + bottom, raw), maximum
