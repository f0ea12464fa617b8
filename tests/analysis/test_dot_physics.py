"""The closed formulas against published anchors, tabulated values and a direct simulation."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis import dot_physics as dot

KAPPA = 3.41965e-4


def close(value: float, expected: float, digits: int) -> None:
    assert value == pytest.approx(expected, abs=0.51 * 10.0**-digits)


def test_yields_and_charging_rate():
    close(dot.yield_x(0.1), 0.09084, 5)
    close(dot.yield_t(0.1), 0.01817, 5)
    close(dot.yield_x(0.3), 0.249658, 6)
    close(dot.yield_t(0.3), 0.049983, 6)
    close(dot.p_one_or_more(0.3), 0.259182, 6)
    close(dot.p_two_or_more(0.3), 0.036936, 6)
    close(dot.charging_rate(KAPPA, 2.5e6, 0.1), 4.000, 3)
    close(dot.charging_rate(KAPPA, 2.5e6, 0.3), 31.577, 3)
    close(dot.charging_rate(KAPPA, 1e3, 0.1), 0.0016, 4)
    close(dot.charging_rate(KAPPA, 1e3, 0.3), 0.013, 3)


@pytest.mark.parametrize(
    ("field", "expected", "digits"),
    [(1, 6e-6, 6), (2, 0.0110, 4), (3, 0.1261, 4), (4, 0.3752, 4), (5, 0.6306, 4), (6, 0.8064, 4), (8, 0.9534,
    4),
     (10, 0.9885, 4)],
)  # fmt: skip
def test_discharge_probability(field, expected, digits):
    close(dot.kick_probability(field, 20, 15), expected, digits)


def test_ionisation_probability_and_thresholds():
    close(dot.kick_probability(5, 20, 60), 1.23e-4, 6)
    close(dot.kick_probability(6, 20, 60), 9.1e-4, 5)
    close(dot.kick_probability(8, 20, 60), 0.0110, 4)
    close(dot.kick_probability(10, 20, 60), 0.0484, 4)
    assert dot.kick_probability(0.0, 20, 15) == 0.0
    close(dot.half_kick_field(20, 15), 4.461, 3)


@pytest.mark.parametrize(
    ("p_d", "mean", "digits"), [(0.02, 0.11695, 5), (0.2, 0.016937, 6), (1.0, 0.0019907, 7)]
)
def test_kicked_occupancy_at_given_probability(p_d, mean, digits):
    close(dot.kicked_occupancy(4, 10, 1e-3, p_d).mean, mean, digits)


@pytest.mark.parametrize(
    ("field", "mean"), [(2, 0.15961), (3, 0.02693), (4, 0.00841), (5, 0.00428), (6, 0.00293), (10, 0.00204)]
)
def test_kicked_occupancy_at_given_field(field, mean):
    close(dot.kicked_occupancy(4, 10, 1e-3, dot.kick_probability(field, 20, 15)).mean, mean, 5)


def test_kicked_occupancy_other_periods():
    slow = dot.kicked_occupancy(4, 10, 1.0, dot.kick_probability(5, 20, 15))
    close(slow.before, 0.28571, 5)
    close(slow.after, 0.10556, 5)
    for (k_c, k_d, period, p), before, mean in [
        ((50, 20, 10e-3, 0.5), 0.478354, 0.372605),
        ((100, 100, 1e-3, 0.5), 0.153453, 0.116368),
        ((10, 10, 10e-3, 0.8), 0.108382, 0.066473),
    ]:
        occupancy = dot.kicked_occupancy(k_c, k_d, period, p)
        close(occupancy.before, before, 6)
        close(occupancy.mean, mean, 6)


def test_delay_scan_table():
    delays = np.array([0, 10, 30, 60, 100, 200]) * 1e-9
    p_d, p_i = dot.kick_probability(10, 20, 15), dot.kick_probability(10, 20, 60)
    alive = dot.exciton_alive(delays, 0.3, 30e-9, 400e-9)
    k_c = dot.charging_rate(KAPPA, 2.5e6, 0.3)
    mean = dot.kicked_occupancy(k_c, 10, 1e-3, p_d, p_i * alive).mean
    expected = [0.027809, 0.024469, 0.020330, 0.017550, 0.016354, 0.015941]
    np.testing.assert_allclose(mean, expected, atol=0.6e-6)
    signal = dot.yield_x(0.3) - (dot.yield_x(0.3) - dot.yield_t(0.3)) * mean
    np.testing.assert_allclose(
        signal, [0.244105, 0.244772, 0.245598, 0.246153, 0.246392, 0.246475], atol=0.6e-6
    )
    close(k_c / (k_c + 10), 0.759, 3)


def test_alive_probability_with_jitter_matches_average_over_jitter():
    # direct average over 4e5 Gaussian delays; the largest of six deviations exceeds 4.5 sigma in 4e-5 of
    # seeds
    rng = np.random.Generator(np.random.Philox(1))
    sigma, period, tau = 2e-9, 400e-9, 30e-9
    for delay in np.array([0.0, 1.0, 5.0, 200.0, 399.0, 400.0]) * 1e-9:
        shifted = delay + sigma * rng.standard_normal(400_000)
        since_last = np.mod(shifted, period)
        sample = dot.exciton_alive(since_last, 0.3, tau, period)
        value = dot.exciton_alive(delay, 0.3, tau, period, sigma)
        assert abs(sample.mean() - value) < 4.5 * sample.std() / np.sqrt(sample.size) + 1e-6
    half = dot.exciton_alive(0.0, 0.3, tau, period, 1e-12)
    np.testing.assert_allclose(half, 0.5 * dot.exciton_alive(0.0, 0.3, tau, period), rtol=1e-4)
    np.testing.assert_allclose(dot.exciton_alive(400e-9, 0.3, tau, period, 1e-12), half, rtol=1e-4)


@pytest.mark.parametrize(
    ("mu", "expected"), [(0.02, 0.10047), (0.1, 0.10232), (0.2, 0.10463), (0.5, 0.11136), (1.0, 0.12186)]
)
def test_pulsed_g2_of_the_neutral_dot(mu, expected):
    close(dot.pulsed_g2_zero(mu, yields=dot.DotYields(biexciton=0.095)), expected, 5)


def test_pulsed_g2_with_blinking_and_clicks():
    strong = dot.DotYields(biexciton=0.95 * 0.128)
    close(dot.pulsed_g2_zero(0.1, yields=strong), 0.13062, 4)
    y = dot.DotYields(biexciton=0.095)
    for p_t, far, near in [(0.2, 0.11723, 0.10238), (0.5, 0.14809, 0.10253)]:
        close(dot.pulsed_g2_zero(0.1, p_t, y, far=True), far, 5)
        close(dot.pulsed_g2_zero(0.1, p_t, y), near, 5)
    close(dot.pulsed_g2_zero(0.1, 2 / 7, far=True), 0.12232, 5)
    close(dot.pulsed_g2_zero(0.1, 2 / 7), 0.10031, 5)
    close(dot.pulsed_g2_zero_clicks(1.0, 0.3, y), 0.1233, 4)


def test_bunching_and_fano():
    for p_t, ratio, expected in [(0.5, 0.19, 0.46331), (0.2, 0.19, 0.14949), (0.3, 0.19, 0.24043), (0.5, 0,
    1.0),
                                 (2 / 7, 0.2, 0.21948)]:  # fmt: skip
        close(dot.blinking_beta(p_t, ratio), expected, 5)
    p_t_on = dot.kicked_occupancy(4, 10, 1e-3, dot.kick_probability(5, 20, 15)).mean
    close(dot.blinking_beta(p_t_on, 0.2), 0.0027, 4)
    ratio = 0.19 / 0.95
    rate_x = 8.700e3 / (1 - (1 - ratio) * 2 / 7)
    close(dot.fano_factor(rate_x, ratio * rate_x, 4, 10, 0.5), 234.8, 1)
    close(dot.fano_factor(rate_x, ratio * rate_x, 4, 10, 1e5), 273.8, 1)


def test_background_and_cw():
    close(dot.raw_g2(0.1, 0.9), 0.271, 3)
    close(dot.raw_g2(0.02, 0.8), 0.3728, 4)
    close(dot.cw_g2_zero(6.30e5), 0.0994, 4)
    near = dot.DotYields()
    assert dot.cw_g2_zero(6.30e5) == pytest.approx(
        near.biexciton / near.exciton * (1 + 6.30e5 * 30e-9), rel=0.005
    )
    assert dot.cw_g2_zero(6.30e5, yields=dot.DotYields(biexciton=0.0)) == 0.0


def test_mean_intensity_gain_of_blinking_control():
    p_on = dot.kicked_occupancy(4, 10, 1e-3, dot.kick_probability(5, 20, 15)).mean
    close((1 - 0.8 * p_on) / (1 - 0.8 * 2 / 7), 1.2919, 4)
