"""Detectors alone. Seeds are fixed; limits are 4 sigma (false alarm 6e-5) unless said otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.twin.config import DetectionConfig
from labctl.twin.detection import DetectorPair
from tests.twin.world_kit import S

QUIET = {"dark_rate_a_per_s": 0.0, "dark_rate_b_per_s": 0.0, "afterpulse_probability": 0.0}


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def poisson_light(rate_per_s: float, duration_s: float, seed: int = 5) -> np.ndarray:
    rng = generator(seed)
    times = np.sort(rng.integers(0, int(duration_s * S), rng.poisson(rate_per_s * duration_s)))
    return 2 * times


@pytest.mark.parametrize(("rate", "measured"), [(1e5, 99_502), (1e6, 952_381), (5e6, 4_000_000)])
def test_dead_time_law(rate: float, measured: float) -> None:
    duration_s = 0.4
    a, b = DetectorPair(DetectionConfig(**QUIET), generator(1)).advance(poisson_light(rate, duration_s), S)
    assert abs(a.size - measured * duration_s) < 4 * math.sqrt(rate * duration_s)
    assert b.size == 0
    assert np.diff(a).min() > 50_000 - 150


def test_jitter_of_the_tagger_and_skew() -> None:
    config = DetectionConfig(**QUIET, skew_ps={1: 0, 2: 1_300, 3: 0, 4: 0, 5: 0, 6: 0})
    truth = np.arange(1, 20_001) * 1_000_000
    a, b = DetectorPair(config, generator(1)).advance(np.sort(np.concatenate((2 * truth, 2 * truth + 1))), S)
    assert np.std(a - truth) == pytest.approx(10.0, rel=0.03)
    assert np.mean(b - truth) == pytest.approx(1_300, abs=0.3)


def test_afterpulses_follow_the_dead_time() -> None:
    config = DetectionConfig(**{**QUIET, "afterpulse_probability": 0.05})
    truth = np.arange(1, 40_001) * 10_000_000
    a, _ = DetectorPair(config, generator(2)).advance(2 * truth, S)
    late = np.diff(a)
    late = late[late < 5_000_000]
    # each after-pulse may have one of its own
    expected = 40_000 * 0.05 / 0.95
    assert abs(late.size - expected) < 4 * math.sqrt(expected)
    assert np.mean(late - 50_000) == pytest.approx(50_000, rel=0.1)


def test_flashes_reach_the_other_detector() -> None:
    config = DetectionConfig(**QUIET, crosstalk_probability=0.01, skew_ps=dict.fromkeys(range(1, 7), 0))
    truth = np.arange(1, 40_001) * 1_000_000
    a, b = DetectorPair(config, generator(3)).advance(2 * truth, S)
    assert a.size == 40_000
    assert abs(b.size - 400) < 80
    assert np.mean(b % 1_000_000) == pytest.approx(6_000, abs=4)


def test_darks() -> None:
    config = DetectionConfig(**{**QUIET, "dark_rate_a_per_s": 1000.0, "dark_rate_b_per_s": 10.0})
    a, b = DetectorPair(config, generator(4)).advance(np.empty(0, np.int64), 100 * S)
    assert abs(a.size - 1e5) < 4 * math.sqrt(1e5)
    assert abs(b.size - 1e3) < 4 * math.sqrt(1e3)


def test_slices_do_not_matter() -> None:
    config = DetectionConfig(crosstalk_probability=0.1, afterpulse_probability=0.2)
    light = np.sort(poisson_light(2e6, 0.01) + generator(9).integers(0, 2, poisson_light(2e6, 0.01).size))
    whole = DetectorPair(config, generator(7)).advance(light, S // 50)
    sliced = DetectorPair(config, generator(7))
    parts = []
    for k in range(1, 201):
        low, high = np.searchsorted(light, (2 * (k - 1) * S // 10_000, 2 * k * S // 10_000))
        parts.append(sliced.advance(light[low:high], k * S // 10_000))
    for detector in (0, 1):
        assert np.array_equal(whole[detector], np.concatenate([part[detector] for part in parts]))
