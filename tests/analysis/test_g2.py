"""g2 estimators: score pulls, background, upper limits and the dip under continuous light."""

from __future__ import annotations

import numpy as np
import pytest
from dot_simulator import generator, summary

from labctl.analysis.errors import AnalysisError
from labctl.analysis.g2 import Background, cw_g2_zero, fit_pulsed_g2

LAGS = np.arange(-10, 11)
PERIOD, LIVE = 400e-9, 100.0


def histogram(rng, g2, signal, background):
    return np.where(
        LAGS == 0, rng.poisson(g2 * signal + background, 21), rng.poisson(signal + background, 21)
    )


def dark(accidentals):
    """Equal channels of 10 kcps whose dark rate gives that many accidental coincidences per peak."""
    singles = 10_000.0
    signal = np.sqrt(singles**2 - accidentals / (PERIOD * LIVE))
    return int(singles * LIVE), Background(singles - signal)


@pytest.mark.parametrize(("signal", "accidentals"), [(50.0, 0.0), (1000.0, 60.0)])
def test_score_pulls_and_coverage(signal, accidentals):
    # 200 seeds: mean sd .07, sd .05; coverage 68 +- 3.3 %; bounds at 3 sigma or wider
    singles, background = dark(accidentals)
    pulls, covered = [], 0
    for seed in range(200):
        counts = histogram(generator(seed), 0.1, signal, accidentals)
        fit = fit_pulsed_g2(LAGS, counts, singles, singles, background, background, LIVE, PERIOD)
        pulls.append(fit.score_pull(0.1))
        covered += abs(fit.corrected.pull(0.1)) < 1.0
    mean, sd = summary(pulls)
    assert abs(mean) < 0.25
    assert 0.8 < sd < 1.2
    assert 0.58 < covered / 200 < 0.85


def test_raw_corrected_and_far():
    singles, background = dark(60.0)
    lags = np.concatenate([LAGS, [5_000_000, 5_000_001]])
    counts = np.concatenate([np.where(LAGS == 0, 160, 1060), [880, 880]])
    fit = fit_pulsed_g2(
        lags, counts, singles, singles, background, background, LIVE, PERIOD, far_from=1_000_000
    )
    assert fit.corrected.value == pytest.approx(0.1, abs=1e-3)
    assert fit.raw.value == pytest.approx(160 / 1060, rel=1e-3)
    assert fit.raw.raw
    assert not fit.corrected.raw
    assert fit.far is not None
    assert fit.far.value == pytest.approx(100 / 820, rel=1e-2)
    assert fit.beta is not None
    assert fit.beta.value == pytest.approx(1000 / 820 - 1, rel=1e-2)
    near = fit_pulsed_g2(LAGS, counts[:21], singles, singles, background, background, LIVE, PERIOD)
    assert near.corrected == fit.corrected


def test_no_centre_counts_give_an_upper_limit():
    counts = np.where(LAGS == 0, 0, 50)
    none = Background(0.0)
    fit = fit_pulsed_g2(LAGS, counts, 1_000_000, 1_000_000, none, none, LIVE, PERIOD)
    assert fit.corrected.value < 1e-3
    assert fit.upper_limit_95 == pytest.approx(1.353 / 50, rel=0.05)
    with pytest.raises(AnalysisError):
        fit_pulsed_g2(LAGS, np.zeros(21, int), 1, 1, none, none, LIVE, PERIOD)


def test_cw_dip_pulls():
    # 60 seeds: mean sd .13, sd .09; bounds at 3 sigma
    edges = np.linspace(-200e3, 200e3, 201)
    rho, sigma, t_c = 0.9, np.sqrt(2) * 150.0, 29.4e3
    fine = np.linspace(-200e3, 200e3, 20_001)
    kernel = np.exp(-0.5 * (np.arange(-60, 61) * 20.0 / sigma) ** 2)
    padded = np.exp(-np.abs(np.arange(-10_060, 10_061) * 20.0) / t_c)
    shape = np.interp(edges[:-1] + 1e3, fine, np.convolve(padded, kernel / kernel.sum(), "valid"))
    expected = 200.0 * (1.0 - rho**2 * 0.9 * shape)
    pulls = []
    for seed in range(60):
        counts = generator(seed).poisson(expected)
        found = cw_g2_zero(edges, counts, 150e-12, rho, rho)
        pulls.append((found["g2_zero"].pull(0.1), found["t_c"].pull(t_c * 1e-12)))
    for values in np.transpose(pulls):
        mean, sd = summary(list(values))
        assert abs(mean) < 0.45
        assert 0.72 < sd < 1.3
