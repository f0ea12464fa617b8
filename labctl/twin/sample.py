"""The dot's own numbers: what one pulse, one kick and one second of waiting do to it.

A mid-infrared pulse acts without memory. It discharges the charged dot with p_d(F) and ionises an exciton
that is present with p_i(F), both of the tunnelling form p(F) = 1 - exp(-A exp(-F0/F)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.twin.config import DotConfig, WorldConfig
from labctl.twin.optics import Drive, mean_rate_hz


def kick_probability(field_mv_cm: float, amplitude: float, scale_mv_cm: float) -> float:
    """p(F) = 1 - exp(-A exp(-F0/F)); 0 at zero field."""
    if field_mv_cm <= 0:
        return 0.0
    return -math.expm1(-amplitude * math.exp(-scale_mv_cm / field_mv_cm))


def discharge_probability(dot: DotConfig, field_mv_cm: float) -> float:
    """p_d(F), per kick of the charged dot."""
    return kick_probability(field_mv_cm, dot.kick_amplitude, dot.discharge_field_mv_cm)


def ionisation_probability(dot: DotConfig, field_mv_cm: float) -> float:
    """p_i(F), per kick of the neutral dot with an exciton present."""
    return kick_probability(field_mv_cm, dot.kick_amplitude, dot.ionisation_field_mv_cm)


def at_least_one(mean: float) -> float:
    """P(N >= 1) of a Poisson number."""
    return -math.expm1(-mean)


def at_least_two(mean: float) -> float:
    """P(N >= 2) of a Poisson number; the series keeps its digits at small means."""
    if mean < 1e-3:
        return mean * mean * (0.5 - mean / 3 + mean * mean / 8)
    return at_least_one(mean) - mean * math.exp(-mean)


def pulse_yields(dot: DotConfig, mean: float) -> tuple[float, float]:
    """Mean photons per pulse (y_X, y_T) of the neutral and of the charged dot."""
    one, two = at_least_one(mean), at_least_two(mean)
    return dot.eta_x * one + dot.eta_bx * two, dot.eta_t * one + dot.eta_cbx * two


def cw_occupations(dot: DotConfig, pump_per_s: float) -> tuple[float, float]:
    """Stationary probabilities of (X, BX) in the neutral dot under a CW pump 0 -> X -> BX."""
    exciton = pump_per_s * dot.tau_x_s
    biexciton = exciton * pump_per_s * dot.tau_bx_s
    norm = 1 + exciton + biexciton
    return exciton / norm, biexciton / norm


def charging_rate_per_s(dot: DotConfig, light: Drive, mir_period_ps: int) -> float:
    """k_c: biexcitons made per second in the neutral dot, times the charging probability of each."""
    pulsed = mean_rate_hz(light.train, mir_period_ps) * at_least_two(light.mean_excitons)
    cw = light.pump_per_s * cw_occupations(dot, light.pump_per_s)[0]
    return dot.charging_per_biexciton * (pulsed + cw)


def exciton_survival(dot: DotConfig, mean: float, age_s: float) -> float:
    """Probability that the neutral dot holds an exciton or biexciton `age_s` after one pulse."""
    x, bx = dot.tau_x_s, dot.tau_bx_s
    one = mean * math.exp(-mean) * math.exp(-age_s / x)
    if math.isclose(x, bx):
        return one + at_least_two(mean) * (1 + age_s / x) * math.exp(-age_s / x)
    cascade = (x * math.exp(-age_s / x) - bx * math.exp(-age_s / bx)) / (x - bx)
    return one + at_least_two(mean) * cascade


def delay_ps(light: Drive, config: WorldConfig) -> int | None:
    """MIR pulse minus the last visible pulse before it; None without a burst locked to the amplifier."""
    train = light.train
    if train is None or train.source != "mir_trigger":
        return None
    since_first = config.mir.arrival_ps - train.offset_ps - config.visible.trigger_latency_ps
    last = min(since_first // train.period_ps, (train.count or 1) - 1)
    return since_first - last * train.period_ps if since_first >= 0 else None


def exciton_at_mir(light: Drive, config: WorldConfig) -> float:
    """Probability that the neutral dot holds an exciton when a MIR pulse arrives (jitter left out)."""
    dot = config.dot
    if light.train is None:
        return sum(cw_occupations(dot, light.pump_per_s))
    age = delay_ps(light, config)
    if age is None:
        return 0.0
    none = 1.0
    for k in range(8):
        none *= 1 - exciton_survival(dot, light.mean_excitons, (age + k * light.train.period_ps) * 1e-12)
    return 1 - none


def mean_charged(charge: float, discharge: float, kick: float, ionise: float, period_s: float) -> float:
    """Time average of P_T under kicks.

    charge, discharge: rates k_c, k_d in 1/s; kick, ionise: p_d and the probability c that a kick charges the
    neutral dot. From P+ = (a P (1-e) + c) / (1 - a e), a = 1 - p_d - c, e = exp(-K T).
    """
    rate = charge + discharge
    if rate == 0:
        return ionise / (kick + ionise) if kick + ionise > 0 else math.nan
    rest = charge / rate
    lost = -math.expm1(-rate * period_s)
    keep = 1 - kick - ionise
    after = (keep * rest * lost + ionise) / (1 - keep * (1 - lost))
    return rest - (rest - after) * lost / (rate * period_s)


@dataclass(frozen=True)
class Derived:
    """What follows from the configuration at the present knobs."""

    mean_excitons: float
    pump_per_s: float
    charging_rate_per_s: float
    neutralisation_rate_per_s: float
    discharge_probability: float
    ionisation_probability: float
    exciton_at_mir_probability: float
    delay_ps: int | None
    p_t_stationary_without_kicks: float
    p_t_stationary: float
    emission_rate_x_per_s: float
    emission_rate_t_per_s: float


def derive(light: Drive, config: WorldConfig) -> Derived:
    """Rates and probabilities of the dot under this light."""
    dot, field = config.dot, light.mir_field_mv_cm
    charge, discharge = charging_rate_per_s(dot, light, config.mir.period_ps), dot.neutralisation_rate_per_s
    kick, ionise = discharge_probability(dot, field), ionisation_probability(dot, field)
    present = exciton_at_mir(light, config)
    period_s = config.mir.period_ps * 1e-12
    x, bx = cw_occupations(dot, light.pump_per_s)
    trion = light.pump_per_s * dot.tau_t_s
    cbx = trion * light.pump_per_s * dot.tau_cbx_s
    y_x, y_t = pulse_yields(dot, light.mean_excitons)
    rate_hz = mean_rate_hz(light.train, config.mir.period_ps)
    cw_x = dot.eta_x * x / dot.tau_x_s + dot.eta_bx * bx / dot.tau_bx_s
    cw_t = (dot.eta_t * light.pump_per_s + dot.eta_cbx * trion * light.pump_per_s) / (1 + trion + cbx)
    return Derived(
        mean_excitons=light.mean_excitons,
        pump_per_s=light.pump_per_s,
        charging_rate_per_s=charge,
        neutralisation_rate_per_s=discharge,
        discharge_probability=kick,
        ionisation_probability=ionise,
        exciton_at_mir_probability=present,
        delay_ps=delay_ps(light, config),
        p_t_stationary_without_kicks=mean_charged(charge, discharge, 0.0, 0.0, period_s),
        p_t_stationary=mean_charged(charge, discharge, kick, ionise * present, period_s),
        emission_rate_x_per_s=rate_hz * y_x + cw_x,
        emission_rate_t_per_s=rate_hz * y_t + cw_t,
    )
