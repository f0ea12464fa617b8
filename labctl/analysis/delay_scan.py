"""The visible-to-mid-infrared delay scan, read from the charge that persists after each kick.

An exciton alive when the mid-infrared pulse arrives is ionised with probability p_i and the dot stays grey
until the next kick, so the counts of whole kick periods carry exp(-delay/tau_X). One fit uses the totals
per delay, with the exact mean and variance (shot and telegraph) of the kicked dot; the other uses every
period, and sees single ionisation events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import hyp0f1
from scipy.stats import chi2

from labctl.analysis.dot_physics import exciton_alive
from labctl.analysis.errors import AnalysisError
from labctl.analysis.estimate import Estimate
from labctl.analysis.likelihood import MaximumLikelihood, Parameter, maximise
from labctl.analysis.telegraph import (
    TelegraphData,
    TelegraphRates,
    goodness_of_fit,
    log_likelihood,
    two_levels,
)

CHI2_95 = 3.84
_UNITS = {"tau_x": "s", "p_i": "", "baseline": "1/s", "drift": "1/s", "rate_x": "1/s", "rate_t": "1/s",
          "k_c": "1/s", "k_d": "1/s", "p_d": ""}  # fmt: skip
_P_I_LIMITS = (-0.1, 1.0)


@dataclass(frozen=True)
class TelegraphNuisance:
    """What the counts fit must be told about the dot, from a period-resolved fit or a blinking measurement.

    rate_ratio: count rate in T over count rate in X. The four are taken as exact: a period-resolved fit of
    the same run knows them far better than a fit of total counts could notice.
    """

    k_c: float
    k_d: float
    p_d: float
    rate_ratio: float

    @property
    def values(self) -> np.ndarray:
        return np.array([self.k_c, self.k_d, self.p_d, self.rate_ratio])


@dataclass(frozen=True)
class DelayScanFit:
    """Result of a delay scan.

    estimates: tau_x (s), p_i, and the further fitted quantities. A quantity that the data leave open is
    absent and `notes` says why. effect: p_i differs from zero (likelihood ratio at least 3.84).
    p_value: goodness of fit. nuisance: what a counts fit of the same dot needs (period-resolved fit only).
    """

    estimates: dict[str, Estimate]
    effect: bool
    verdict: str
    likelihood_ratio: float
    p_value: float
    notes: tuple[str, ...]
    maximum: MaximumLikelihood
    nuisance: TelegraphNuisance | None = field(default=None)

    def __getitem__(self, quantity: str) -> Estimate:
        return self.estimates[quantity]

    def signed_root(self, quantity: str, truth: float) -> float:
        """Signed root of the likelihood ratio at `truth`: the pull where the likelihood is skewed."""
        return self.maximum.signed_root(quantity, truth)


@dataclass(frozen=True)
class DelayScanForecast:
    """Fisher forecast: errors of tau_x (s), p_i and baseline (1/s); mean and variance of each point."""

    tau_x_s: float
    p_i: float
    baseline_hz: float
    mean_counts: np.ndarray
    variance_counts: np.ndarray


@dataclass(frozen=True)
class _Pulses:
    """The visible pulse train as the mid-infrared pulse meets it."""

    mu: float
    period_s: float
    jitter_s: float

    def ionisation(self, delays_s: np.ndarray, p_i: float, tau_x_s: float) -> np.ndarray:
        return p_i * exciton_alive(delays_s, self.mu, tau_x_s, self.period_s, self.jitter_s)


def kicked_count_moments(
    rates: TelegraphRates, kick_period_s: float, p_d: float, c: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the counts per kick period, in the limit of many periods.

    They are the first two derivatives in theta of the logarithm of the largest eigenvalue of Kick expm((Q +
    diag(rates)(e^theta - 1)) T) at theta = 0, so the variance includes shot and telegraph noise. For 2x2
    matrices that eigenvalue needs only trace and determinant, which are differentiated in closed form.
    """
    c, t = np.asarray(c, float), kick_period_s
    kept, extra = 1.0 - c - p_d, p_d - c
    # with u = e^theta - 1 and A = Q + diag(rates) u: mean diagonal m, half difference h, squared root D = h^2
    # + k_c k_d
    m1, h0, h1 = (
        0.5 * (rates.rate_x + rates.rate_t),
        0.5 * (rates.k_d - rates.k_c),
        0.5 * (rates.rate_x - rates.rate_t),
    )
    d0, d1, d2 = h0 * h0 + rates.k_c * rates.k_d, 2.0 * h0 * h1, 2.0 * h1 * h1
    # cosh(sqrt(D) t) and sinh(sqrt(D) t)/sqrt(D) as functions of D, with two derivatives
    z, slope = 0.25 * d0 * t * t, 0.25 * t * t
    f = [float(hyp0f1(b, z)) for b in (0.5, 1.5, 2.5, 3.5)]
    cosh, cosh_d, cosh_dd = f[0], 2.0 * slope * f[1], slope**2 * f[2] * 4.0 / 3.0
    sinh, sinh_d, sinh_dd = t * f[1], t * slope * f[2] / 1.5, t * slope**2 * f[3] / 3.75
    cosh_u, cosh_uu = cosh_d * d1, cosh_dd * d1 * d1 + cosh_d * d2
    sinh_u, sinh_uu = sinh_d * d1, sinh_dd * d1 * d1 + sinh_d * d2
    weight0, weight1 = extra * h0 + c * rates.k_d + p_d * rates.k_c, extra * h1
    trace = (1.0 + kept) * cosh + weight0 * sinh
    trace_u = (1.0 + kept) * cosh_u + weight0 * sinh_u + weight1 * sinh
    trace_uu = (1.0 + kept) * cosh_uu + weight0 * sinh_uu + 2.0 * weight1 * sinh_u
    root = np.sqrt(trace * trace - 4.0 * kept)
    mean = m1 * t + trace_u / root
    return mean, mean + trace_uu / root - trace * trace_u**2 / root**3


def fit_delay_scan_counts(
    delays_s: ArrayLike,
    counts: ArrayLike,
    live_times_s: ArrayLike,
    nuisance: TelegraphNuisance,
    mu: float,
    pulse_period_s: float,
    kick_period_s: float,
    jitter_s: float,
    times_s: ArrayLike | None = None,
) -> DelayScanFit:
    """Fit total counts per delay; free are tau_x, p_i and the baseline (count rate of the neutral dot).

    delays_s, counts, live_times_s: float[n]; delay = arrival of the mid-infrared minus that of the visible
    pulse.
    times_s: middle time of each point; with it the baseline drifts linearly in time (fitted quantity
    `drift`, relative change per second). Repeated reference points are ordinary points and are what
    determines the drift.
    Raises AnalysisError for fewer points than parameters.
    """
    delays, n, live = (np.asarray(a, float) for a in (delays_s, counts, live_times_s))
    needed = 4 if times_s is not None else 3
    if delays.size <= needed or not delays.shape == n.shape == live.shape or np.any(live <= 0.0):
        raise AnalysisError(f"delay scan: needs more than {needed} points, each with counts and a live time")
    pulses = _Pulses(mu, pulse_period_s, jitter_s)
    clock = np.zeros_like(n) if times_s is None else np.asarray(times_s, float)
    clock = clock - clock.mean()

    def residuals(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = _point_moments(
            np.concatenate([v, nuisance.values]), delays, live, clock, pulses, kick_period_s
        )
        return n - mean, variance

    def nll(v: np.ndarray) -> float:
        difference, variance = residuals(v)
        if not np.all(variance > 0.0):
            return 1e12
        return 0.5 * float(np.sum(difference**2 / variance + np.log(variance)))

    rate = float(np.max(n / live))
    parameters = {
        "tau_x": Parameter(0.08 * pulse_period_s, 0.02 * pulse_period_s, _tau_limits(pulse_period_s)),
        "p_i": Parameter(0.02, 0.01, _P_I_LIMITS),
        "baseline": Parameter(rate, 1e-3 * rate, (0.5 * rate, 3.0 * rate)),
        "drift": Parameter(0.0, 1e-6, (None, None), fixed=times_s is None),
    }
    maximum = _best_over_tau(nll, parameters, pulse_period_s)
    difference, variance = residuals(np.array(list(maximum.values.values())))
    deviance = float(np.sum(difference**2 / variance))
    p_value = float(chi2.sf(deviance, delays.size - needed))
    return _report(maximum, int(n.sum()), p_value, "counts per delay, shot and telegraph noise")


def fit_delay_scan_periods(
    delays_s: ArrayLike,
    periods_counts: Sequence[ArrayLike],
    mu: float,
    pulse_period_s: float,
    kick_period_s: float,
    jitter_s: float,
) -> DelayScanFit:
    """Fit the counts of every kick period with the kicked-telegraph model, the charge state being hidden.

    periods_counts: one integer array per delay, counts of consecutive periods that begin with a kick.
    Free are tau_x, p_i, rate_x, rate_t, k_c, k_d, p_d; `nuisance` of the result serves
    `fit_delay_scan_counts`.
    Raises AnalysisError when grey and bright periods cannot be told apart.
    """
    delays = np.asarray(delays_s, float)
    if delays.size < 3 or delays.size != len(periods_counts):
        raise AnalysisError("delay scan: needs one array of period counts for each of at least three delays")
    pulses = _Pulses(mu, pulse_period_s, jitter_s)
    data = TelegraphData.from_blocks(periods_counts, range(delays.size), kick_period_s)

    def nll(v: np.ndarray) -> float:
        rates = TelegraphRates(v[2], v[3], v[4], v[5])
        return -log_likelihood(data, rates, v[6], pulses.ionisation(delays, v[1], v[0]))

    maximum = maximise(nll, _period_starts(data, pulse_period_s), "delay scan")
    v = maximum.values
    rates = TelegraphRates(v["rate_x"], v["rate_t"], v["k_c"], v["k_d"])
    goodness = goodness_of_fit(
        data, rates, v["p_d"], pulses.ionisation(delays, v["p_i"], v["tau_x"]), len(maximum.names)
    )
    return _report(
        maximum,
        data.counts.size,
        goodness.p_value,
        "hidden Markov likelihood of kick periods",
        TelegraphNuisance(v["k_c"], v["k_d"], v["p_d"], v["rate_t"] / v["rate_x"]),
    )


def forecast_delay_scan(
    delays_s: ArrayLike,
    live_times_s: ArrayLike,
    rate_x_hz: float,
    nuisance: TelegraphNuisance,
    mu: float,
    p_i: float,
    tau_x_s: float,
    pulse_period_s: float,
    kick_period_s: float,
    jitter_s: float = 0.0,
) -> DelayScanForecast:
    """Errors that `fit_delay_scan_counts` will have, from the Fisher information of its own likelihood.

    I = sum over points of m' m'^T / V + V' V'^T / 2 V^2 (Gaussian with parameter-dependent variance).
    """
    delays = np.asarray(delays_s, float)
    live = np.broadcast_to(np.asarray(live_times_s, float), delays.shape)
    pulses = _Pulses(mu, pulse_period_s, jitter_s)
    point = np.concatenate([[tau_x_s, p_i, rate_x_hz, 0.0], nuisance.values])

    def moments(v: np.ndarray) -> np.ndarray:
        return np.array(_point_moments(v, delays, live, np.zeros_like(delays), pulses, kick_period_s))

    mean, variance = moments(point)
    slopes = []
    for i in range(3):
        step = np.zeros_like(point)
        step[i] = 1e-4 * point[i]
        slopes.append((moments(point + step) - moments(point - step)) / (2.0 * step[i]))
    gradient = np.array(slopes)
    information = (gradient[:, 0] / variance) @ gradient[:, 0].T
    information += 0.5 * (gradient[:, 1] / variance**2) @ gradient[:, 1].T
    # scaled before inversion: seconds, probabilities and count rates differ by twelve orders of magnitude
    scale = np.sqrt(np.diag(information))
    errors = np.sqrt(np.diag(np.linalg.inv(information / np.outer(scale, scale)))) / scale
    return DelayScanForecast(float(errors[0]), float(errors[1]), float(errors[2]), mean, variance)


def _point_moments(
    v: np.ndarray,
    delays: np.ndarray,
    live: np.ndarray,
    clock: np.ndarray,
    pulses: _Pulses,
    kick_period_s: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the counts of each point; v: tau_x, p_i, baseline, drift, four nuisances."""
    tau_x, p_i, baseline, drift, k_c, k_d, p_d, ratio = v
    rates = TelegraphRates(baseline, ratio * baseline, k_c, k_d)
    mean, variance = kicked_count_moments(rates, kick_period_s, p_d, pulses.ionisation(delays, p_i, tau_x))
    gain = 1.0 + drift * clock
    periods = live / kick_period_s
    return periods * mean * gain, periods * (mean * gain + (variance - mean) * gain**2)


def _tau_limits(pulse_period_s: float) -> tuple[float, float]:
    """From a thousandth of the pulse period to half of it, beyond which pulses blend."""
    return 1e-3 * pulse_period_s, 0.5 * pulse_period_s


def _period_starts(data: TelegraphData, pulse_period_s: float) -> dict[str, Parameter]:
    low, high, share, gain = two_levels(data.counts)
    if gain < 20.0 or high - low < 0.5 * np.sqrt(high):
        raise AnalysisError(
            "delay scan: grey and bright periods cannot be told apart; use more light or the "
            "fit of total counts"
        )
    t = data.interval_s
    rate_x, rate_t = high / t, low / t
    k_c = min(max(2.0 * share, 1e-3), 0.5) / t
    candidates = [
        TelegraphRates(rate_x, rate_t, k_c * f, g / t) for f in (0.3, 1.0) for g in (0.002, 0.02, 0.2)
    ]
    scored = [(log_likelihood(data, r, p, 0.0), r, p) for r in candidates for p in (0.1, 0.5, 0.95)]
    _, rates, p_d = max(scored, key=lambda entry: entry[0])
    return {
        "tau_x": Parameter(0.08 * pulse_period_s, 0.02 * pulse_period_s, _tau_limits(pulse_period_s)),
        "p_i": Parameter(0.02, 0.01, (0.0, 1.0)),
        "rate_x": Parameter(rate_x, 0.002 * rate_x, (0.0, None)),
        "rate_t": Parameter(rate_t, 0.02 * rate_t, (0.0, None)),
        "k_c": Parameter(rates.k_c, 0.05 * rates.k_c, (0.0, None)),
        "k_d": Parameter(rates.k_d, 0.2 * rates.k_d, (0.0, None)),
        "p_d": Parameter(p_d, 0.02, (0.0, 1.0)),
    }


def _best_over_tau(
    nll: Callable[[np.ndarray], float], parameters: Mapping[str, Parameter], pulse_period_s: float
) -> MaximumLikelihood:
    """Best of several starts in tau_x: with little effect the likelihood has more than one maximum there."""
    found = []
    for tau in np.array([0.02, 0.08, 0.2]) * pulse_period_s:
        start = Parameter(float(tau), 0.2 * float(tau), parameters["tau_x"].limits)
        found.append(maximise(nll, dict(parameters) | {"tau_x": start}, "delay scan"))
    return min(found, key=lambda m: m.nll)


def _report(
    maximum: MaximumLikelihood, n: int, p_value: float, method: str, nuisance: TelegraphNuisance | None = None
) -> DelayScanFit:
    ratio = max(2.0 * (maximum.profile("p_i", 0.0) - maximum.nll), 0.0)
    effect = ratio >= CHI2_95
    estimates, notes = {}, []
    for name in maximum.names:
        if maximum.parameters[name].fixed or name not in _UNITS or name in ("tau_x", "p_i"):
            continue
        error = maximum.error(name)
        estimates[name] = Estimate(name, maximum.values[name], error, error, _UNITS[name], method, n)
    for name in ("tau_x", "p_i"):
        if name == "tau_x" and not effect:
            notes.append("tau_x: unconstrained, since p_i is consistent with zero")
            continue
        low, high = maximum.interval(name)
        if low is None or high is None:
            notes.append(f"{name}: the likelihood does not close on one side within the allowed range")
            continue
        value = maximum.values[name]
        estimates[name] = Estimate(
            name, value, value - low, high - value, _UNITS[name], method + ", profile likelihood", n
        )
    return DelayScanFit(
        estimates, effect, _verdict(maximum, effect), ratio, p_value, tuple(notes), maximum, nuisance
    )


def _verdict(maximum: MaximumLikelihood, effect: bool) -> str:
    p_i, tau = maximum.values["p_i"], maximum.values["tau_x"]
    if effect:
        return (
            f"effect: the exciton is ionised with p_i = {p_i:.3g} and decays with tau_x = {tau * 1e9:.3g} ns"
        )
    _, high = maximum.interval("p_i", rise=0.5 * CHI2_95)
    limit = "none within the allowed range" if high is None else f"{max(high, 0.0):.2g}"
    return f"no effect: p_i consistent with zero, upper limit {limit} at 95 %"
