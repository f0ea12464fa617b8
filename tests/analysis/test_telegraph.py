"""The hidden Markov model against matrix exponentials, and blinking fits against injected truth."""

from __future__ import annotations

import numpy as np
import pytest
from dot_simulator import generator, kicked_counts, summary
from scipy.linalg import expm

from labctl.analysis.blinking import fit_blinking_control
from labctl.analysis.dot_physics import kicked_occupancy
from labctl.analysis.errors import AnalysisError
from labctl.analysis.telegraph import (
    NO_KICK,
    TelegraphData,
    TelegraphRates,
    emission_table,
    goodness_of_fit,
    log_likelihood,
)

RATES = TelegraphRates(5e4, 1e4, 4.0, 10.0)
T = 1e-3


def blocks(rng, number, n, p_d, kicked, rates=RATES):
    return [
        kicked_counts(rng, n, T, rates.rate_x, rates.rate_t, rates.k_c, rates.k_d, p_d, 0.0, kicked)
        for _ in range(number)
    ]


def test_emission_table_sums_to_the_transition_matrix():
    rates = TelegraphRates(3e4, 6e3, 300.0, 100.0)
    table = emission_table(rates, T, 120)
    np.testing.assert_allclose(
        table.sum(0), expm(np.array([[-300.0, 300.0], [100.0, -100.0]]) * T), atol=1e-12
    )


def test_emission_table_matches_a_series_in_small_steps():
    rates, steps = TelegraphRates(3e4, 6e3, 300.0, 100.0), 512
    fine = emission_table(rates, T / steps, 12)
    joined = np.zeros((64, 2, 2))
    joined[0] = np.eye(2)
    for _ in range(steps):
        update = np.zeros_like(joined)
        for n in range(12):
            update[n:] += joined[: 64 - n] @ fine[n]
        joined = update
    np.testing.assert_allclose(emission_table(rates, T, 63), joined, atol=1e-11)


def test_log_likelihood_matches_plain_products():
    counts, kicks = np.array([50, 48, 12, 9, 30]), np.array([NO_KICK, 0, 1, NO_KICK, 1])
    data = TelegraphData.from_blocks([counts], [kicks], T)
    table, c, p_d = emission_table(RATES, T, 50), [0.1, 0.2], 0.3
    state = np.array([0.5, 0.5])
    for n, g in zip(counts, kicks, strict=True):
        kick = np.eye(2) if g == NO_KICK else np.array([[1 - c[g], c[g]], [p_d, 1 - p_d]])
        state = state @ kick @ table[n]
    assert log_likelihood(data, RATES, p_d, c) == pytest.approx(np.log(state.sum()), rel=1e-12)


def test_blinking_control_pulls():
    # 60 seeds: a perfect pull mean (sd .13) leaves +-.45 with 0.05 %, a perfect sd (.09) .72-1.32 with 0.3 %
    p_d = 0.6306
    on = float(kicked_occupancy(4.0, 10.0, T, p_d).mean)
    truths = {"trion_fraction_off": 2 / 7, "trion_fraction_on": on, "trion_fraction_ratio": on / (2 / 7),
              "k_c": 4.0, "k_d": 10.0, "p_d": p_d, "rate_x": 5e4, "rate_t": 1e4}  # fmt: skip
    pulls: dict[str, list[float]] = {name: [] for name in truths}
    alarms = 0
    for seed in range(60):
        rng = generator(seed)
        fit = fit_blinking_control(blocks(rng, 4, 6000, 0.0, 0), blocks(rng, 4, 6000, p_d, 1), T)
        assert fit.effect
        alarms += fit.goodness.p_value < 1e-3
        for name, truth in truths.items():
            pulls[name].append(fit[name].pull(truth))
    for name, values in pulls.items():
        mean, sd = summary(values)
        assert abs(mean) < 0.45, (name, mean)
        assert 0.72 < sd < 1.32, (name, sd)
    assert alarms <= 2


def test_absent_kicks_are_seldom_taken_for_an_effect():
    # p_d cannot be negative, so a likelihood ratio above 3.84 has a chance of 2.5 %: more than 4 of 30 in
    # 0.1 %, and the best p_d is zero in half of the cases: fewer than 6 or more than 24 of 30 in 0.1 %
    effects, at_zero = 0, 0
    for seed in range(30):
        rng = generator(1000 + seed)
        fit = fit_blinking_control(blocks(rng, 4, 6000, 0.0, 0), blocks(rng, 4, 6000, 0.0, 1), T)
        effects += fit.effect
        at_zero += fit["p_d"].value < 1e-6
        assert abs(fit["trion_fraction_ratio"].value - 1) < 5 * fit["trion_fraction_ratio"].error
    assert effects <= 4
    assert 6 <= at_zero <= 24


def test_no_kick_gives_a_ratio_of_one_and_says_so():
    rng = generator(7)
    fit = fit_blinking_control(blocks(rng, 4, 10_000, 0.0, 0), blocks(rng, 4, 10_000, 0.0, 1), T)
    assert not fit.effect
    assert fit.verdict.startswith("no effect")
    ratio = fit["trion_fraction_ratio"]
    assert abs(ratio.pull(1.0)) < 4.0
    assert 0.02 < ratio.error < 0.1


def test_goodness_of_fit_alarms_at_a_third_level():
    # quantum yield jumping to half for whole blocks: not a two-level dot
    rng = generator(3)
    half = TelegraphRates(2.5e4, 5e3, 4.0, 10.0)
    data = blocks(rng, 3, 6000, 0.0, 0) + blocks(rng, 2, 6000, 0.0, 0, half)
    fit = fit_blinking_control(data, blocks(rng, 3, 6000, 0.6, 1), T)
    assert fit.goodness.p_value < 1e-3


def test_goodness_of_fit_accepts_the_truth():
    # 40 seeds at the true parameters: more than 3 below .01 happens in 0.1 % of cases
    low = 0
    for seed in range(40):
        data = TelegraphData.from_blocks(blocks(generator(seed), 1, 20_000, 0.0, 0), [NO_KICK], T)
        low += goodness_of_fit(data, RATES, 0.0, 0.0, 0).p_value < 0.01
    assert low <= 3


def test_dots_that_do_not_blink_are_refused_with_a_reason():
    rng = generator(1)
    grey = [rng.poisson(10, 5000) for _ in range(2)]
    with pytest.raises(AnalysisError, match="one brightness"):
        fit_blinking_control(grey, grey, T)
    once = [np.concatenate([rng.poisson(50, 5000), rng.poisson(10, 5000)])]
    with pytest.raises(AnalysisError, match="barely blinks"):
        fit_blinking_control(once, [rng.poisson(50, 5000)], T)
    with pytest.raises(AnalysisError, match="no counts"):
        fit_blinking_control([np.zeros(100, int)], [np.zeros(100, int)], T)
