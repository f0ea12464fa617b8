"""Mid-infrared blinking control: how much of its time the dot is charged with the kicks off and on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.dot_physics import kicked_occupancy
from labctl.analysis.errors import AnalysisError
from labctl.analysis.estimate import Estimate
from labctl.analysis.likelihood import MaximumLikelihood, Parameter, maximise
from labctl.analysis.telegraph import (
    NO_KICK,
    GoodnessOfFit,
    TelegraphData,
    TelegraphRates,
    goodness_of_fit,
    log_likelihood,
    two_levels,
)

CHI2_95 = 3.84
_SUBSET = 20_000
_MIN_TRANSITIONS = 4.0
_METHOD = "kicked-telegraph hidden Markov likelihood, Hessian errors"


@dataclass(frozen=True)
class BlinkingFit:
    """Result of `fit_blinking_control`.

    estimates: trion_fraction_off, trion_fraction_on, trion_fraction_ratio (on/off), k_c, k_d (1/s), p_d,
    rate_x, rate_t (1/s), and c when ionisation was fitted.
    effect: the kicks discharge the dot (likelihood ratio of p_d = 0 at least 3.84); verdict says it in
    words.
    """

    estimates: dict[str, Estimate]
    effect: bool
    verdict: str
    likelihood_ratio: float
    goodness: GoodnessOfFit
    maximum: MaximumLikelihood

    def __getitem__(self, quantity: str) -> Estimate:
        return self.estimates[quantity]


def fit_blinking_control(
    off_blocks: Sequence[ArrayLike],
    on_blocks: Sequence[ArrayLike],
    interval_s: float,
    with_ionisation: bool = False,
    intervals_per_kick: int = 1,
) -> BlinkingFit:
    """Fit interleaved blocks without and with kicks together.

    off_blocks, on_blocks: counts of consecutive intervals of `interval_s`; a kick comes at the start of the
    first interval of each on-block and of every `intervals_per_kick`-th after it.
    Raises AnalysisError when the dot shows one brightness only, or too few changes of it for a rate.
    """
    if not off_blocks or not on_blocks:
        raise AnalysisError("blinking control: needs at least one block without and one with kicks")
    off = TelegraphData.from_blocks(off_blocks, [NO_KICK] * len(off_blocks), interval_s)
    on_kicks = [
        np.where(np.arange(np.size(block)) % intervals_per_kick == 0, 0, NO_KICK) for block in on_blocks
    ]
    on = TelegraphData.from_blocks(on_blocks, on_kicks, interval_s)
    data = TelegraphData.from_blocks(
        [*off_blocks, *on_blocks], [*[NO_KICK] * len(off_blocks), *on_kicks], interval_s
    )
    maximum = maximise(
        lambda v: -log_likelihood(data, _rates(v), v[4], v[5]),
        _starts(off, on, interval_s, with_ionisation),
        "blinking control",
    )
    transitions = _transitions(maximum.values) * off.counts.size * interval_s
    if transitions < _MIN_TRANSITIONS:
        raise AnalysisError(
            f"blinking control: the dot barely blinks by itself (about {transitions:.1f} switching cycles in "
            f"{off.counts.size * interval_s:.3g} s without kicks); measure longer or raise the visible power"
        )
    ratio = 2.0 * (maximum.profile("p_d", 0.0) - maximum.nll)
    effect = ratio >= CHI2_95
    v = maximum.values
    goodness = goodness_of_fit(
        data,
        _rates(list(v.values())),
        v["p_d"],
        v["c"],
        sum(not p.fixed for p in maximum.parameters.values()),
    )
    estimates = _estimates(maximum, data.counts.size, interval_s * intervals_per_kick)
    if _near_limit(maximum, "p_d"):
        estimates |= _one_sided(maximum, interval_s * intervals_per_kick, data.counts.size)
    return BlinkingFit(estimates, effect, _verdict(effect, ratio, estimates), ratio, goodness, maximum)


def occupancy(maximum: MaximumLikelihood, kick_period_s: float, n: int) -> dict[str, Estimate]:
    """Charged fraction without kicks, with kicks, and their ratio (on/off), from the full covariance.

    The maximum must hold k_c, k_d, p_d, c. Errors by the delta method: fractions on the logit scale, the
    ratio on the logarithmic scale, so that intervals stay in range.
    """

    def off(v: Mapping[str, float]) -> float:
        return v["k_c"] / (v["k_c"] + v["k_d"])

    def on(v: Mapping[str, float]) -> float:
        return float(kicked_occupancy(v["k_c"], v["k_d"], kick_period_s, v["p_d"], v["c"]).mean)

    def ratio(v: Mapping[str, float]) -> float:
        return on(v) / off(v)

    found = {}
    for name, function in (("trion_fraction_off", off), ("trion_fraction_on", on)):
        value, error = maximum.propagate(function)
        found[name] = _logit_estimate(name, value, error, n)
    value, error = maximum.propagate(ratio)
    low, high = (error, error)
    if value > 0.0:
        low, high = -value * np.expm1(-error / value), value * np.expm1(error / value)
    found["trion_fraction_ratio"] = Estimate(
        "trion_fraction_ratio", value, float(low), float(high), "", _METHOD, n
    )
    return found


def _near_limit(maximum: MaximumLikelihood, name: str) -> bool:
    """Whether a limit lies within three errors, where a parabola says little about the likelihood."""
    value, error = maximum.values[name], maximum.error(name)
    low, high = maximum.parameters[name].limits
    return (low is not None and value - low < 3 * error) or (high is not None and high - value < 3 * error)


def _one_sided(maximum: MaximumLikelihood, kick_period_s: float, n: int) -> dict[str, Estimate]:
    """p_d, charged fraction with kicks, and ratio, with errors from the profile of p_d between 0 and 1.

    Where the best p_d lies on a limit, the error on that side is half the one on the other: not none, since
    the other parameters move too.
    """
    v = maximum.values
    low, high = maximum.interval("p_d")
    down, up = _filled(v["p_d"] - (low or 0.0), (1.0 if high is None else high) - v["p_d"])
    method = "kicked-telegraph hidden Markov likelihood, profile of p_d"

    def on(u: Mapping[str, float], p_d: float) -> float:
        return float(kicked_occupancy(u["k_c"], u["k_d"], kick_period_s, p_d, u["c"]).mean)

    def ratio(u: Mapping[str, float], p_d: float) -> float:
        return on(u, p_d) * (u["k_c"] + u["k_d"]) / u["k_c"]

    found = {"p_d": Estimate("p_d", v["p_d"], down, up, "", method, n)}
    for name, function in (("trion_fraction_on", on), ("trion_fraction_ratio", ratio)):
        best, rest = maximum.propagate(partial(function, p_d=v["p_d"]))
        least, most = function(v, min(v["p_d"] + up, 1.0)), function(v, max(v["p_d"] - down, 0.0))
        below, above = _filled(best - least, most - best)
        found[name] = Estimate(
            name, best, float(np.hypot(below, rest)), float(np.hypot(above, rest)), "", method, n
        )
    return found


def _filled(below: float, above: float) -> tuple[float, float]:
    """Two errors, the smaller at least half of the larger."""
    return max(below, 0.5 * above), max(above, 0.5 * below)


def _logit_estimate(name: str, value: float, error: float, n: int) -> Estimate:
    if not 0.0 < value < 1.0:
        return Estimate(name, value, error, error, "", _METHOD, n)
    logit, width = np.log(value / (1.0 - value)), error / (value * (1.0 - value))
    low, high = 1.0 / (1.0 + np.exp(-(logit + width * np.array([-1.0, 1.0]))))
    return Estimate(name, value, float(value - low), float(high - value), "", _METHOD, n)


def _rates(v: Sequence[float] | np.ndarray) -> TelegraphRates:
    return TelegraphRates(float(v[0]), float(v[1]), float(v[2]), float(v[3]))


def _transitions(v: Mapping[str, float]) -> float:
    """Switching cycles per second of the free telegraph."""
    return v["k_c"] * v["k_d"] / max(v["k_c"] + v["k_d"], 1e-300)


def _estimates(maximum: MaximumLikelihood, n: int, kick_period_s: float) -> dict[str, Estimate]:
    units = {"rate_x": "1/s", "rate_t": "1/s", "k_c": "1/s", "k_d": "1/s", "p_d": "", "c": ""}
    found = occupancy(maximum, kick_period_s, n)
    for name in maximum.names:
        if not maximum.parameters[name].fixed:
            error = maximum.error(name)
            found[name] = Estimate(name, maximum.values[name], error, error, units[name], _METHOD, n)
    return found


def _verdict(effect: bool, likelihood_ratio: float, estimates: Mapping[str, Estimate]) -> str:
    p_d, ratio = estimates["p_d"], estimates["trion_fraction_ratio"]
    if effect:
        return (
            f"effect: each kick discharges the dot with probability {p_d.value:.3g} ± {p_d.error:.2g}; "
            f"the charged fraction changes by the factor {ratio.value:.3g}"
        )
    return (
        f"no effect: discharge probability {p_d.value:.2g} ± {p_d.error:.2g} is consistent with zero "
        f"(likelihood ratio {likelihood_ratio:.2f} < {CHI2_95})"
    )


def _starts(
    off: TelegraphData, on: TelegraphData, interval_s: float, with_ionisation: bool
) -> dict[str, Parameter]:
    """Levels from the histogram, rates and kick from a coarse search on part of the data."""
    low, high, _, gain = two_levels(np.concatenate([off.counts, on.counts]))
    if gain < 20.0 or high - low < 0.1 * np.sqrt(high):
        mean = float(np.mean(off.counts)) / interval_s
        raise AnalysisError(
            f"blinking control: the dot shows one brightness only ({mean:.4g} counts/s), so that grey and "
            "bright cannot be told apart; it may be charged or neutral throughout: measure longer or change "
            "the visible power"
        )
    rate_x, rate_t = high / interval_s, low / interval_s
    part_off, part_on = _subset(off), _subset(on)

    def free(k: tuple[float, float]) -> float:
        return log_likelihood(part_off, TelegraphRates(rate_x, rate_t, *k), 0.0, 0.0)

    grid = np.geomspace(0.3, 0.3 / interval_s, 12)
    k_c, k_d = max(
        ((total * p_t, total * (1.0 - p_t)) for total in grid for p_t in (0.05, 0.3, 0.7, 0.95)), key=free
    )
    rates = TelegraphRates(rate_x, rate_t, k_c, k_d)
    p_d = max((0.0, 0.05, 0.2, 0.5, 0.8, 0.95), key=lambda p: log_likelihood(part_on, rates, p, 0.0))
    return {
        "rate_x": Parameter(rate_x, 0.01 * rate_x, (0.0, None)),
        "rate_t": Parameter(rate_t, 0.02 * rate_t, (0.0, None)),
        "k_c": Parameter(k_c, 0.1 * k_c, (0.0, None)),
        "k_d": Parameter(k_d, 0.1 * k_d, (0.0, None)),
        "p_d": Parameter(p_d or 1e-4, 0.02 if p_d > 0.0 else 1e-3, (0.0, 1.0)),
        "c": Parameter(1e-4 if with_ionisation else 0.0, 1e-3, (0.0, 1.0), fixed=not with_ionisation),
    }


def _subset(data: TelegraphData) -> TelegraphData:
    """The first intervals, enough for start values."""
    n = min(data.counts.size, _SUBSET)
    offsets = np.append(data.offsets[data.offsets < n], n)
    return TelegraphData(data.counts[:n], data.kicks[:n], offsets, data.interval_s, data.classes)
