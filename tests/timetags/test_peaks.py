"""Peaks of pulsed light on the lag axis: zero, areas, leakage, against a simulated comb."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.timetags import find_zero, leakage, peak_areas

PERIOD, LIFETIME, SKEW = 50_000.0, 12_000.0, 3_217.0


def comb(seed, n=40_000, background=0, skew=SKEW):
    """Counts on 100 ps bins over +-225 ns: peaks -7..7 of equal area but the zero peak, which has a tenth."""
    rng = np.random.default_rng(seed)
    weights = np.where(np.arange(-7, 8) == 0, 0.1, 1.0)
    numbers = rng.choice(np.arange(-7, 8), n, p=weights / weights.sum())
    lags = numbers * PERIOD + skew + rng.laplace(0.0, LIFETIME, n)
    lags = np.concatenate([lags, rng.uniform(-225_000, 225_000, background)])
    edges = np.arange(-225_000, 225_001, 100)
    return edges, np.histogram(lags, edges)[0].astype(np.int64)


def test_find_zero_recovers_the_skew():
    # 200 seeds: the pulls have mean 0 and width 1 within the usual bounds
    zeros = [find_zero(*comb(seed, background=4_000), PERIOD) for seed in range(200)]
    pulls = np.array([(zero.offset_ps - SKEW) / zero.error_ps for zero in zeros])
    assert abs(pulls.mean()) < 0.2
    assert 0.85 < pulls.std() < 1.15


def test_find_zero_of_flat_light_is_refused():
    edges = np.arange(-225_000, 225_001, 100)
    counts = np.random.default_rng(0).poisson(3, edges.size - 1)
    with pytest.raises(ValueError, match="no peaks with a period of 50000 ps"):
        find_zero(edges, counts, PERIOD)


def test_areas_and_leakage():
    # a tenth of a peak at zero, and 22 % in its window: the neighbours' tails double it
    edges, counts = comb(1, n=400_000)
    areas = peak_areas(edges, counts, PERIOD, SKEW)
    assert areas.numbers.tolist() == list(range(-3, 4))
    per_peak = 400_000 / 14.1
    raw = areas.areas[3] / areas.areas[[0, 1, 5, 6]].mean()
    clean, error = areas.without_leakage(LIFETIME)
    assert raw > 0.18
    assert abs(clean[3] - 0.1 * per_peak) < 4 * error[3]
    others = [0, 1, 2, 4, 5, 6]
    assert np.all(np.abs(clean[others] - per_peak) < 4 * error[others])
    assert error[3] == pytest.approx(np.sqrt(areas.areas[3]), rel=0.35)


def test_pulls_of_areas_without_leakage():
    # 200 seeds; only a fixed total of photons is drawn, which takes 7 % off the variance of a peak
    pulls = []
    for seed in range(200):
        areas = peak_areas(*comb(seed, skew=0.0), PERIOD, 0.0, 15_000)
        clean, error = areas.without_leakage(LIFETIME)
        truth = np.where(areas.numbers == 0, 0.1, 1.0) * 40_000 / 14.1
        pulls.append(((clean - truth) / error)[1:-1])
    assert abs(np.mean(pulls)) < 0.1
    assert 0.9 < np.std(pulls) < 1.1


def test_leakage_adds_up():
    orders = np.arange(-60, 61)
    assert leakage(orders, PERIOD, PERIOD / 2, LIFETIME).sum() == pytest.approx(1.0)
    assert leakage(np.array([0]), PERIOD, PERIOD / 2, 1.0)[0] == 1.0
    np.testing.assert_array_equal(leakage(np.array([1, 5]), PERIOD, PERIOD / 2, 1.0), 0.0)


def test_refuses_what_does_not_fit():
    edges, counts = comb(0, n=100)
    with pytest.raises(ValueError, match="half_width_ps"):
        peak_areas(edges, counts, PERIOD, half_width_ps=26_000)
    with pytest.raises(ValueError, match="wider window"):
        peak_areas(edges, counts, 500_000.0)
