"""Correlations over many decades against the definition, however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import Gap, LogCorrelation, MultiTau, TagBlock, log_edges
from labctl.timetags import multi_tau as multi_tau_module
from tests.timetags.streams import chunked, cut_at

PAIRS = st.sampled_from([(1, 2), (2, 1), (1, 1), (3, 9)])
GAPS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=2)


def with_gaps(streams, gaps):
    whole, blocks = streams
    lost = tuple(Gap(begin, begin + length) for begin, length in gaps)
    whole = TagBlock(whole.times_ps, whole.channels, whole.begin_ps, whole.end_ps, lost)
    return whole, cut_at(whole, [piece.end_ps for piece in blocks[:-1]])


def pairs_in_one_stretch(whole, a, b):
    tags = list(zip(whole.times_ps.tolist(), whole.channels.tolist(), strict=True))
    tags = [(t, c) for t, c in tags if not any(g.begin_ps <= t < g.end_ps for g in whole.gaps)]
    for i, (t, c) in enumerate(tags):
        for j, (u, d) in enumerate(tags):
            broken = any(min(t, u) < g.begin_ps <= max(t, u) for g in whole.gaps)
            if i != j and c == a and d == b and not broken:
                yield t, u


EDGES = st.sampled_from([(1, 10, 100), (0, 5, 6, 31, 200), (-40, -3, 2, 2_000), (-30, 30)])


@given(chunked(), GAPS, PAIRS, EDGES)
def test_log_correlation_equals_the_definition(streams, gaps, pair, edges):
    whole, blocks = with_gaps(streams, gaps)
    correlation = LogCorrelation(*pair, edges)
    for block in blocks:
        correlation.update(block)
        assert (correlation.counts >= 0).all()  # reading does not disturb
    lags = [u - t for t, u in pairs_in_one_stretch(whole, *pair)]
    expected = [sum(lo <= lag < hi for lag in lags) for lo, hi in pairwise(edges)]
    assert correlation.counts.tolist() == expected


def test_log_correlation_of_many_tags():
    rng = np.random.default_rng(5)
    times, channels = np.sort(rng.integers(0, 10**9, 200_000)), rng.integers(1, 3, 200_000).astype(np.int32)
    edges = log_edges(10, 10**6)
    correlation = LogCorrelation(1, 2, edges)
    for block in cut_at(TagBlock(times, channels, 0, 10**9), [10**8, 7 * 10**8]):
        correlation.update(block)
    starts, stops = times[channels == 1], times[channels == 2]
    below = [np.searchsorted(stops, starts + edge).sum() for edge in edges]
    np.testing.assert_array_equal(correlation.counts, np.diff(below))
    g2 = correlation.g2()
    wide = edges[:-1] >= 10_000
    assert np.all(np.abs(g2.score_pull(1.0)[wide]) < 4)
    assert correlation.live_time_ps == 10**9


def test_log_g2_allows_for_the_end_of_the_record():
    correlation = LogCorrelation(1, 2, [-1_000, -100, 0, 500, 900])
    times = np.arange(0, 1_000, 5)
    correlation.update(TagBlock(times, np.tile([1, 2], 100).astype(np.int32), 0, 1_000))
    np.testing.assert_allclose(correlation.g2().values, 1.0, atol=0.03)


def test_log_edges():
    assert log_edges(1_000, 10**6, 1).tolist() == [1_000, 10_000, 100_000, 1_000_000]
    assert log_edges(1, 100, 10).size < 21  # edges of the same picosecond are one
    with pytest.raises(ValueError, match="no logarithmic lags"):
        log_edges(0, 10)
    with pytest.raises(ValueError, match="ascending"):
        LogCorrelation(1, 2, [5, 5])


def multi_tau_by_definition(whole, a, b, width, levels, n):
    pairs = list(pairs_in_one_stretch(whole, a, b))
    counts = []
    for level in range(levels):
        step = width << level
        differences = [u // step - t // step for t, u in pairs]
        counts += [differences.count(k) for k in range(n // 2 if level else 0, n)]
    return counts


@pytest.mark.parametrize("dense_from", [0, 12, 10**9])
@given(streams=chunked(), gaps=GAPS, pair=PAIRS, shape=st.sampled_from([(3, 4), (5, 2), (1, 6)]))
def test_multi_tau_equals_the_definition(dense_from, streams, gaps, pair, shape):
    whole, blocks = with_gaps(streams, gaps)
    width, n = shape
    levels = 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi_tau_module, "_DENSE_WIDTHS_PS", (dense_from, dense_from))
        patch.setattr(multi_tau_module, "_PIECE_BINS", 7)
        correlation = MultiTau(*pair, width, (n - 1) * width << (levels - 1), n)
        for block in blocks:
            correlation.update(block)
            assert (correlation.counts >= 0).all()
    assert correlation.counts.tolist() == multi_tau_by_definition(whole, *pair, width, levels, n)


def test_multi_tau_axes():
    correlation = MultiTau(1, 2, 10, 200, 4)
    assert correlation.lags_ps.tolist() == [0, 10, 20, 30, 40, 60, 80, 120, 160, 240]
    assert correlation.widths_ps.tolist() == [10] * 4 + [20] * 2 + [40] * 2 + [80] * 2
    assert correlation.g2().lag_edges_ps.size == 11
    with pytest.raises(ValueError, match="even"):
        MultiTau(1, 2, 10, 200, 5)


def test_multi_tau_of_poisson_light_is_one():
    rng = np.random.default_rng(6)
    n = rng.poisson(300_000)
    times, channels = np.sort(rng.integers(0, 10**12, n)), rng.integers(1, 3, n).astype(np.int32)
    for pair in [(1, 2), (1, 1)]:
        correlation = MultiTau(*pair, 1_000, 10**11)
        correlation.update(TagBlock(times, channels, 0, 10**12))
        g2 = correlation.g2()
        usable = g2.expected > 5
        assert usable.sum() > 100
        assert np.all(np.abs(g2.score_pull(1.0)[usable]) < 4.5)
        assert sum(correlation.singles) in (n, 2 * (channels == 1).sum())


def test_multi_tau_smooths_and_says_so():
    # a comb of 100 ps: lags of 100 +- 16 ps all lie in the triangle around bins of 32 ps, exact lags do not
    times = np.arange(0, 10**6, 100)
    channels = np.ones(times.size, np.int32)
    smooth, exact = MultiTau(1, 1, 32, 1_000), LogCorrelation(1, 1, [64, 96, 128])
    for accumulator in (smooth, exact):
        accumulator.update(TagBlock(times, channels, 0, 10**6))
    assert exact.counts.tolist() == [0, times.size - 1]
    assert (smooth.counts[3:5] > 0).all()
    assert smooth.counts[3:5].sum() == times.size - 1
