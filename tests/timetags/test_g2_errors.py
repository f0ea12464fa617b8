"""Are the stated errors of g2 honest: at a handful of counts, with dead time, and on a source that blinks?"""

from __future__ import annotations

import numpy as np
import pytest

from labctl.timetags import Correlation, TagBlock
from labctl.timetags.g2 import renewal_pairs
from labctl.timetags.spread import Segments, excess

SECOND_PS = 10**12


def merged(*streams):
    times = np.concatenate(streams)
    channels = np.repeat(np.arange(1, len(streams) + 1, dtype=np.int32), [s.size for s in streams])
    order = np.argsort(times, kind="stable")
    return times[order], channels[order]


def poisson(rng, rate_hz, duration_ps):
    return np.sort(rng.integers(0, duration_ps, rng.poisson(rate_hz * duration_ps * 1e-12)))


def correlated(times, channels, duration_ps, window_ps, bin_ps, gaps=()):
    correlation = Correlation((1, 2), window_ps, bin_ps)
    correlation.update(TagBlock(times, channels, 0, duration_ps, gaps))
    return correlation


@pytest.mark.parametrize("expected", [0.7, 3.0, 40.0])
def test_pulls_at_few_counts(expected):
    # 200 seeds of 20 bins with `expected` pairs each, unequal rates: mean and width of the pulls, coverage
    pulls, covered = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rate = 20_000.0
        streams = poisson(rng, rate, SECOND_PS // 10), poisson(rng, rate / 4, SECOND_PS // 10)
        bin_ps = round(expected / (rate * rate / 4 * 0.1) * 1e12)
        g2 = correlated(*merged(*streams), SECOND_PS // 10, 10 * bin_ps, bin_ps).g2(1, 2)
        pulls.append(g2.score_pull(1.0))
        covered.append((g2.values - g2.error_low <= 1.0) & (1.0 <= g2.values + g2.error_high))
    assert abs(np.mean(pulls)) < 0.1
    assert 0.9 < np.std(pulls) < 1.1
    # exact intervals of small counts cover more than they say, never less
    assert 0.66 < np.mean(covered) < (0.94 if expected < 10 else 0.74)


def blinking(rng, rate_hz, switch_s, duration_s):
    """Two detectors look at a source that is on or off for exponential times of mean switch_s."""
    n = int(3 * duration_s / switch_s) + 50
    edges = np.concatenate([[0.0], np.cumsum(rng.exponential(switch_s, n))])
    on = np.arange(n) % 2 == rng.integers(2)
    inside = edges[:-1] < duration_s
    begins, ends = edges[:-1][on & inside], np.minimum(edges[1:][on & inside], duration_s)
    streams = []
    for _ in range(2):
        numbers = rng.poisson(rate_hz * (ends - begins))
        times = np.repeat(begins, numbers) + rng.random(numbers.sum()) * np.repeat(ends - begins, numbers)
        streams.append(np.sort((times * 1e12).astype(np.int64)))
    return merged(*streams)


def test_errors_contain_the_blinking_of_the_source():
    # on half of the time: g2 = 2 for lags far below the 5 ms of blinking. 120 seeds; the pulls of one seed go
    # together, so their width is known to about 7 %
    pulls, without = [], []
    for seed in range(120):
        times, channels = blinking(np.random.default_rng(seed), 20_000.0, 5e-3, 2.0)
        g2 = correlated(times, channels, 2 * SECOND_PS, 20_000_000, 1_000_000).g2(1, 2)
        pulls.append(g2.score_pull(2.0))
        without.append((g2.counts - 2.0 * g2.expected) / np.sqrt(2.0 * g2.expected))
    assert np.std(without) > 1.3  # Poisson errors alone are too small
    assert 0.85 < np.std(pulls) < 1.2
    assert abs(np.mean(pulls)) < 0.25
    error = 0.5 * (g2.error_low + g2.error_high)
    np.testing.assert_allclose(error, g2.values * np.hypot(g2.excess, g2.counts**-0.5), rtol=0.03)


def dead_time_stream(rng, rate_hz, dead_ps, duration_ps):
    waits = rng.exponential(1e12 / rate_hz, int(1.3 * rate_hz * duration_ps * 1e-12) + 100)
    times = np.cumsum(waits + dead_ps).astype(np.int64)
    return times[times < duration_ps]


def test_dead_time_is_allowed_for():
    # Poisson light of 20 Mcps behind a dead time of 30 ns: the autocorrelation is 0, then overshoots by 60 %;
    # against the same light behind the same dead time it is 1. 37 bins, false alarm 1e-3: 4.3 sigma
    times = dead_time_stream(np.random.default_rng(1), 20e6, 30_000, SECOND_PS // 50)
    channels = np.ones(times.size, np.int32)
    correlation = correlated(times, channels, SECOND_PS // 50, 200_000, 5_000)
    plain, allowed = correlation.g2(1, 1), correlation.g2(1, 1, dead_time_ps=30_000)
    after = plain.lag_edges_ps[:-1] >= 30_000
    assert plain.values[after].max() > 1.4
    assert np.isnan(allowed.values[40:46]).all() and (plain.counts[40:46] == 0).all()
    # the noise of a renewal process is below that of Poisson light
    assert np.all(np.abs(allowed.score_pull(1.0)[after]) < 4.3)
    np.testing.assert_allclose(allowed.values[after], 1.0, atol=0.03)


def test_renewal_without_dead_time_is_poisson():
    edges = np.arange(0, 1_000_001, 50_000)
    np.testing.assert_allclose(renewal_pairs(edges, 1e6, 0), 0.05, rtol=1e-9)
    with pytest.raises(ValueError, match="impossible with a dead time of 2000000 ps"):
        renewal_pairs(edges, 1e6, 2_000_000)


def test_score_pull_is_counted_in_deviations_of_the_truth():
    times, channels = merged(np.array([0, 500_000]), np.array([10, 700_000]))
    g2 = correlated(times, channels, 1_000_000, 100, 50).g2(1, 2)
    mean = 0.3 * g2.expected
    assert g2.counts.tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(g2.score_pull(0.3), (g2.counts - mean) / np.sqrt(mean))


def test_segments_join_in_pairs():
    segments = Segments(1)
    total = 0
    for step in range(100):
        while not segments.advance(segments.room_ps):
            pass
        total += step
        segments.close(np.array([total]))
    grown = segments.increments[:, 0]
    assert 16 <= grown.size < 32
    assert grown.sum() == total
    assert segments.length_ps == 32 * 10**9


def test_no_excess_where_there_is_nothing_to_tell_it_from():
    few = np.ones((3, 2), np.int64)
    assert excess(few, few[:, 0], few[:, 0]).tolist() == [0.0, 0.0]
    none = np.zeros((16, 2), np.int64)
    assert excess(none, np.ones(16, np.int64), np.ones(16, np.int64)).tolist() == [0.0, 0.0]
    assert excess(none + 1, none[:, 0], none[:, 0]).tolist() == [0.0, 0.0]
