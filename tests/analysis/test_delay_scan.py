"""Delay-scan fits: exact moments, the forecast of the reference design, and injected truth."""

from __future__ import annotations

import numpy as np
import pytest
from dot_simulator import generator, kicked_counts, summary

from labctl.analysis import dot_physics as dot
from labctl.analysis.delay_scan import (
    TelegraphNuisance,
    fit_delay_scan_counts,
    fit_delay_scan_periods,
    forecast_delay_scan,
    kicked_count_moments,
)
from labctl.analysis.telegraph import TelegraphRates

DELAYS = np.concatenate([[0.3e-9], np.geomspace(1e-9, 390e-9, 19)])
K_C = float(dot.charging_rate(3.41965e-4, 2.5e6, 0.3))
P_D, P_I = float(dot.kick_probability(10, 20, 15)), float(dot.kick_probability(10, 20, 60))
RATE_X, RATE_T = (0.05 * 2.5e6 * float(y(0.3)) for y in (dot.yield_x, dot.yield_t))
RATES = TelegraphRates(RATE_X, RATE_T, K_C, 10.0)
NUISANCE = TelegraphNuisance(K_C, 10.0, P_D, RATE_T / RATE_X)
TRAIN = {"mu": 0.3, "pulse_period_s": 400e-9, "kick_period_s": 1e-3, "jitter_s": 80e-12}


def test_moments_match_occupancy_fano_and_simulation():
    c = np.array([0.0, 0.01])
    mean, variance = kicked_count_moments(RATES, 1e-3, P_D, c)
    occupied = dot.kicked_occupancy(K_C, 10.0, 1e-3, P_D, c).mean
    np.testing.assert_allclose(mean, 1e-3 * (RATE_X - (RATE_X - RATE_T) * occupied), rtol=1e-12)
    free_mean, free_variance = kicked_count_moments(TelegraphRates(5e4, 1e4, 4.0, 10.0), 1e-3, 0.0, 0.0)
    assert free_variance / free_mean == pytest.approx(dot.fano_factor(5e4, 1e4, 4.0, 10.0, 1e6), rel=1e-6)
    # 2000 sums over 200 periods: the variance is known to 3.2 %; 4.5 sigma, false alarm 7e-6
    counts = kicked_counts(generator(1), 400_000, 1e-3, RATE_X, RATE_T, K_C, 10.0, P_D, 0.01, 1)
    assert counts.reshape(2000, 200).sum(1).var() / 200 == pytest.approx(variance[1], rel=0.145)


@pytest.mark.parametrize(("live", "tau_ns", "relative"), [(30, 6.5, 7.2), (100, 3.6, 3.9), (300, 2.1, 2.3)])
def test_forecast_of_the_reference_design(live, tau_ns, relative):
    found = forecast_delay_scan(DELAYS, live, RATE_X, NUISANCE, 0.3, P_I, 30e-9, 400e-9, 1e-3)
    assert found.tau_x_s * 1e9 == pytest.approx(tau_ns, abs=0.06)
    assert 100 * found.p_i / P_I == pytest.approx(relative, abs=0.06)


def drawn_counts(rng, p_i, live, gain=1.0):
    c = p_i * dot.exciton_alive(DELAYS, 0.3, 30e-9, 400e-9, 80e-12)
    mean, variance = kicked_count_moments(RATES, 1e-3, P_D, c)
    periods = live / 1e-3
    return np.rint(gain * rng.normal(periods * mean, np.sqrt(periods * variance)))


def test_counts_fit_pulls_and_errors():
    # 100 seeds: mean has sd .10, sd has .07; the bounds leave 1 % false alarms in all
    live, roots, errors = np.full(20, 100.0), {"tau_x": [], "p_i": []}, []
    for seed in range(100):
        fit = fit_delay_scan_counts(
            DELAYS, drawn_counts(generator(seed), P_I, 100.0), live, NUISANCE, **TRAIN
        )
        assert fit.effect
        roots["tau_x"].append(fit.signed_root("tau_x", 30e-9))
        roots["p_i"].append(fit.signed_root("p_i", P_I))
        errors.append(fit["tau_x"].error)
    for values in roots.values():
        mean, sd = summary(values)
        assert abs(mean) < 0.3
        assert 0.8 < sd < 1.2
    forecast = forecast_delay_scan(DELAYS, live, RATE_X, NUISANCE, 0.3, P_I, 30e-9, 400e-9, 1e-3, 80e-12)
    assert 0.7 < np.median(errors) / forecast.tau_x_s < 1.4


def test_counts_fit_null():
    # likelihood ratio over p_i and tau_x jointly: 40 seeds at about 10 %; more than 11 in 0.2 % of cases
    effects = 0
    for seed in range(40):
        counts = drawn_counts(generator(seed), 0.0, 30.0)
        fit = fit_delay_scan_counts(DELAYS, counts, np.full(20, 30.0), NUISANCE, **TRAIN)
        effects += fit.effect
        if not fit.effect:
            assert "tau_x" not in fit.estimates
            assert fit.verdict.startswith("no effect")
            assert fit.notes
    assert effects <= 11


def test_linear_drift_in_monotone_order_is_unbiased():
    # 2 % per hour over 2000 s, 30 seeds: sd of the mean .18, bound 3.3 sigma
    times = 100.0 * np.arange(20)
    gain = 1.0 + 0.02 / 3600.0 * (times - times.mean())
    roots = []
    for seed in range(30):
        counts = drawn_counts(generator(seed), P_I, 100.0, gain)
        fit = fit_delay_scan_counts(DELAYS, counts, np.full(20, 100.0), NUISANCE, **TRAIN, times_s=times)
        roots.append(fit.signed_root("p_i", P_I))
    assert abs(np.mean(roots)) < 0.6


def test_periods_fit_recovers_the_dot():
    # 8 seeds, each |signed root| < 4 with false alarm 6e-5, means within 2.8 sigma
    c = P_I * dot.exciton_alive(DELAYS, 0.3, 30e-9, 400e-9, 80e-12)
    roots, rate_pulls = [], []
    for seed in range(8):
        rng = generator(seed)
        data = [kicked_counts(rng, 3000, 1e-3, RATE_X, RATE_T, K_C, 10.0, P_D, x, 1) for x in c]
        fit = fit_delay_scan_periods(DELAYS, data, **TRAIN)
        assert fit.effect
        roots.append(fit.signed_root("p_i", P_I))
        rate_pulls.append(fit["k_c"].pull(K_C))
    assert max(map(abs, roots)) < 4.0
    assert abs(np.mean(roots)) < 1.0
    assert abs(np.mean(rate_pulls)) < 1.0


def test_periods_fit_null():
    rng = generator(5)
    data = [kicked_counts(rng, 1500, 1e-3, RATE_X, RATE_T, K_C, 10.0, 0.63, 0.0, 1) for _ in DELAYS]
    fit = fit_delay_scan_periods(DELAYS, data, **TRAIN)
    assert not fit.effect
    assert "upper limit" in fit.verdict
