"""Closed formulas of a blinking colloidal dot under pulsed light and mid-infrared kicks.

The dot is neutral (X, bright) or charged (T, a grey trion). Visible pulses excite it, biexcitons charge it,
mid-infrared pulses kick it back. All functions accept arrays and broadcast. Units are SI, fields in MV/cm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr


@dataclass(frozen=True)
class DotYields:
    """Quantum yields of the four emitting species.

    Defaults: exciton and trion as measured on thick-shell CdSe/CdS (Spinicelli et al., PRL 2009); the
    biexciton yield gives g2(0) = 0.100 at a mean excitation of 0.1 per pulse; the charged biexciton yield
    is a guess of the same order.
    """

    exciton: float = 0.95
    biexciton: float = 0.093
    trion: float = 0.19
    charged_biexciton: float = 0.02


class KickedOccupancy(NamedTuple):
    """Probability of the charged state just before a kick, just after it, and averaged over the period."""

    before: Any
    after: Any
    mean: Any


def p_one_or_more(mu: ArrayLike) -> Any:
    """Probability that a pulse of mean excitation mu creates at least one exciton (Poisson)."""
    return -np.expm1(-np.asarray(mu, float))


def p_two_or_more(mu: ArrayLike) -> Any:
    """Probability that a pulse of mean excitation mu creates at least two excitons (Poisson)."""
    mu = np.asarray(mu, float)
    return -np.expm1(-mu) - mu * np.exp(-mu)


def yield_x(mu: ArrayLike, yields: DotYields | None = None) -> Any:
    """Mean photons per visible pulse from the neutral dot: exciton and biexciton photon."""
    y = yields or DotYields()
    return y.exciton * p_one_or_more(mu) + y.biexciton * p_two_or_more(mu)


def yield_t(mu: ArrayLike, yields: DotYields | None = None) -> Any:
    """Mean photons per visible pulse from the charged dot: trion and charged-biexciton photon."""
    y = yields or DotYields()
    return y.trion * p_one_or_more(mu) + y.charged_biexciton * p_two_or_more(mu)


def kick_probability(field_mv_per_cm: ArrayLike, amplitude: float, f0_mv_per_cm: float) -> Any:
    """Probability 1 - exp(-A exp(-F0/F)) that one pulse of peak field F moves the charge by tunnelling."""
    field = np.asarray(field_mv_per_cm, float)
    with np.errstate(divide="ignore"):
        return -np.expm1(-amplitude * np.exp(-f0_mv_per_cm / field))


def half_kick_field(amplitude: float, f0_mv_per_cm: float) -> float:
    """Peak field in MV/cm at which `kick_probability` is one half."""
    return f0_mv_per_cm / float(np.log(amplitude / np.log(2.0)))


def charging_rate(kappa: float, pulse_rate_hz: ArrayLike, mu: ArrayLike) -> Any:
    """Charging rate in 1/s: Auger ionisation with probability kappa per biexciton (Galland et al., 2012)."""
    return kappa * np.asarray(pulse_rate_hz, float) * p_two_or_more(mu)


def kicked_occupancy(
    k_c: ArrayLike, k_d: ArrayLike, period_s: ArrayLike, p_d: ArrayLike, c: ArrayLike = 0.0
) -> KickedOccupancy:
    """Periodic steady state of the telegraph X<->T (rates k_c, k_d in 1/s) kicked every `period_s`.

    p_d: probability that a kick discharges T. c: probability that a kick ionises X.
    Fixed point of P+ = (1-p_d) P- + c (1-P-) with exponential relaxation in between.
    """
    k_c, k_d, p_d, c = (np.asarray(v, float) for v in (k_c, k_d, p_d, c))
    relaxation = (k_c + k_d) * np.asarray(period_s, float)
    free = k_c / (k_c + k_d)
    decay, kept = np.exp(-relaxation), 1.0 - p_d - c
    rise = -np.expm1(-relaxation)
    after = (kept * free * rise + c) / (1.0 - kept * decay)
    before = free + (after - free) * decay
    mean = free - (free - after) * rise / relaxation
    return KickedOccupancy(before, after, mean)


def exciton_alive(
    delay_s: ArrayLike,
    mu: float,
    tau_x_s: ArrayLike,
    pulse_period_s: float,
    jitter_s: float = 0.0,
    pulses: int = 12,
) -> Any:
    """Probability that an exciton lives when the mid-infrared pulse arrives.

    delay_s: time from a visible pulse to the mid-infrared pulse; the train has `pulse_period_s` and one
    pulse before that in the future (k = -1) and `pulses` in the past are counted. With Gaussian jitter of
    rms `jitter_s` the pulse at distance d contributes P1 exp(s^2/2 tau^2 - d/tau) Phi(d/s - s/tau), the
    exponential convolved with the Gaussian; contributions combine as 1 - prod(1 - ...). The short stage as
    a biexciton is neglected (below 0.4 % of the value).
    """
    delay = np.asarray(delay_s, float)[..., None] + pulse_period_s * np.arange(-1, pulses + 1)
    tau = np.asarray(tau_x_s, float)[..., None]
    if jitter_s > 0.0:
        ratio = jitter_s / tau
        exponent = 0.5 * ratio**2 - delay / tau + log_ndtr(delay / jitter_s - ratio)
    else:
        exponent = np.where(delay >= 0.0, -delay / tau, -np.inf)
    return 1.0 - np.prod(1.0 - p_one_or_more(mu) * np.exp(exponent), axis=-1)


def pulsed_g2_zero(mu: float, p_t: float = 0.0, yields: DotYields | None = None, far: bool = False) -> float:
    """Centre peak over side peak of g2 for a pulse train, with occupancy `p_t` of the charged state.

    far=False divides by the neighbouring side peaks (same charge state: mean of squares), far=True by peaks
    beyond the blinking time (square of the mean). The limit mu -> 0 in X is QY_BX / QY_X (Nair et al., Nano
    Lett. 2011).
    """
    y = yields or DotYields()
    weights = np.array([1.0 - p_t, p_t])
    brightness = np.array([yield_x(mu, y), yield_t(mu, y)])
    pairs = np.array([y.exciton * y.biexciton, y.trion * y.charged_biexciton]) * p_two_or_more(mu)
    side = (weights @ brightness) ** 2 if far else weights @ brightness**2
    return float(2.0 * (weights @ pairs) / side)


def pulsed_g2_zero_clicks(mu: float, efficiency: float, yields: DotYields | None = None) -> float:
    """p_AB / (p_A p_B) of the neutral dot on two click detectors behind a 50:50 splitter, one click per
    pulse each.

    efficiency: probability that an emitted photon would be detected on either detector.
    """
    y = yields or DotYields()
    p1, p2 = p_one_or_more(mu), p_two_or_more(mu)

    def none_seen(efficiency: float) -> Any:
        """Generating function of the photon number at 1 - efficiency."""
        x_missed, bx_missed = 1.0 - efficiency * y.exciton, 1.0 - efficiency * y.biexciton
        return 1.0 - p1 + (p1 - p2) * x_missed + p2 * x_missed * bx_missed

    half, both = none_seen(0.5 * efficiency), none_seen(efficiency)
    return float((1.0 - 2.0 * half + both) / (1.0 - half) ** 2)


def blinking_beta(p_t: ArrayLike, rate_ratio: ArrayLike) -> Any:
    """Bunching amplitude of a telegraph: g2 of the side peaks is 1 + beta exp(-(k_c + k_d)|t|).

    rate_ratio: count rate in T over count rate in X.
    """
    p_t, rate_ratio = np.asarray(p_t, float), np.asarray(rate_ratio, float)
    return (1.0 - p_t) * p_t * (1.0 - rate_ratio) ** 2 / (1.0 - p_t + p_t * rate_ratio) ** 2


def fano_factor(
    rate_x_hz: ArrayLike, rate_t_hz: ArrayLike, k_c: ArrayLike, k_d: ArrayLike, time_s: ArrayLike
) -> Any:
    """Variance over mean of the counts of a free telegraph in a time `time_s`."""
    rate_x, rate_t, k_c, k_d = (np.asarray(v, float) for v in (rate_x_hz, rate_t_hz, k_c, k_d))
    p_t = k_c / (k_c + k_d)
    mean_counts = (rate_x - (rate_x - rate_t) * p_t) * np.asarray(time_s, float)
    x = (k_c + k_d) * np.asarray(time_s, float)
    return 1.0 + mean_counts * blinking_beta(p_t, rate_t / rate_x) * 2.0 * (x + np.expm1(-x)) / x**2


def raw_g2(g2: ArrayLike, signal_fraction: ArrayLike) -> Any:
    """g2 as seen with uncorrelated background: rho^2 g + 1 - rho^2 for equal signal fractions rho."""
    rho2 = np.asarray(signal_fraction, float) ** 2
    return rho2 * np.asarray(g2, float) + 1.0 - rho2


def cw_g2_zero(
    pump_hz: float, tau_x_s: float = 30e-9, tau_bx_s: float = 0.734e-9, yields: DotYields | None = None
) -> float:
    """g2(0) under continuous light from the rate equations of the levels 0, X, BX (pump 0->X and X->BX).

    Close to (QY_BX/QY_X) (1 + W tau_X): a pair at zero delay is a biexciton photon followed by its exciton
    photon.
    """
    y = yields or DotYields()
    x = pump_hz * tau_x_s  # X over ground: flow 0->X equals flow X->0 (detailed balance of the ladder)
    bx = x * pump_hz * tau_bx_s
    norm = 1.0 + x + bx
    x_rate = y.exciton / tau_x_s
    bx_photons = y.biexciton * bx / norm / tau_bx_s
    return float(bx_photons * x_rate / (x / norm * x_rate + bx_photons) ** 2)
