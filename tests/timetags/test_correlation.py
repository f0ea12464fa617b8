"""Correlation histograms against the definition, however tags tie, burst and are cut into blocks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import Correlation, Gap, TagBlock, correlate, correlate_reference
from labctl.timetags.pairs import PairHistogram
from tests.timetags.streams import chunked, cut_at, tags


def brute_force(times, channels, a, b, window, width):
    counts = np.zeros(2 * window // width, np.int64)
    for i in range(len(times)):
        for j in range(len(times)):
            lag = int(times[j]) - int(times[i])
            if i != j and channels[i] == a and channels[j] == b and -window <= lag < window:
                counts[(lag + window) // width] += 1
    return counts


WINDOWS = st.sampled_from([(12, 3), (30, 1), (35, 7), (10, 10), (186, 31)])
PAIRS = st.sampled_from([(1, 2), (2, 1), (1, 1), (3, 2), (1, 9)])


@given(tags(), WINDOWS, PAIRS)
def test_equals_the_definition(stream, window, pair):
    expected = brute_force(*stream, *pair, *window)
    np.testing.assert_array_equal(correlate(*stream, *pair, *window), expected)
    np.testing.assert_array_equal(correlate_reference(*stream, *pair, *window), expected)


@given(tags(), WINDOWS, st.randoms(use_true_random=False))
def test_order_of_simultaneous_tags_does_not_matter(stream, window, random):
    times, channels = stream
    order = list(range(len(times)))
    random.shuffle(order)
    order = np.array(sorted(order, key=lambda i: times[i]), np.int64)
    np.testing.assert_array_equal(
        correlate(times[order], channels[order], 1, 2, *window), correlate(times, channels, 1, 2, *window)
    )


@pytest.mark.parametrize("width", [1, 7, 1_000, 3_000_000_000])
def test_wide_bins_and_long_lags(width):
    # the widest bin is beyond exact multiply-and-shift, so the kernel divides
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(0, 400 * width, 500)) + 2**61
    channels = rng.integers(1, 3, 500).astype(np.int32)
    np.testing.assert_array_equal(
        correlate(times, channels, 1, 2, 50 * width, width),
        correlate_reference(times, channels, 1, 2, 50 * width, width),
    )


def test_lags_exactly_on_edges_are_half_open():
    times = np.array([0, 1_000, 2_000, 100_000], np.int64)
    channels = np.array([1, 2, 2, 2], np.int32)
    ab, ba = correlate(times, channels, 1, 2), correlate(times, channels, 2, 1)
    assert ab.size == 200 and ab[101] == ab[102] == 1 and ab.sum() == 2  # +100 ns is outside
    assert ba[99] == ba[98] == ba[0] == 1 and ba.sum() == 3  # -100 ns is inside


@pytest.mark.parametrize(
    ("times", "channels", "window", "width", "match"),
    [
        ([0, 5, 3], [1, 1, 1], 10, 1, "tag 2 at 3 ps follows 5 ps"),
        ([0, 1], [1], 10, 1, "one length"),
        ([0, 1], [1, 1], 10, 3, "multiple"),
        ([0, 1], [1, 1], 0, 1, "window_ps"),
        ([0, 1], [1, 1], 10, -1, "bin_ps"),
        ([0.5, 1.0], [1, 1], 10, 1, "integers"),
    ],
)
def test_refuses_what_it_cannot_count(times, channels, window, width, match):
    with pytest.raises(ValueError, match=match):
        correlate(np.array(times), np.array(channels), 1, 1, window, width)


@given(chunked(), WINDOWS)
def test_any_chunking_gives_the_same_bits(streams, window):
    whole, blocks = streams
    correlation = Correlation((1, 2, 3), *window)
    for block in blocks:
        correlation.update(block)
    assert correlation.live_time_ps == whole.duration_ps
    for a in (1, 2, 3):
        for b in (1, 2, 3):
            expected = correlate_reference(whole.times_ps, whole.channels, a, b, *window)
            np.testing.assert_array_equal(correlation.counts(a, b), expected)


def test_many_tags_cross_the_internal_slices():
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 200_000_000, 200_000))
    channels = rng.integers(-1, 3, times.size).astype(np.int32)
    correlation = Correlation((-1, 2, 1), 10_000, 500)
    correlation.update(TagBlock(times, channels, 0, 200_000_000))
    for pair in [(-1, 2), (2, 2), (2, -1)]:
        expected = correlate_reference(times, channels, *pair, 10_000, 500)
        np.testing.assert_array_equal(correlation.counts(*pair), expected)
    with pytest.raises(KeyError, match="channel 0"):
        correlation.counts(0, 1)


def test_more_tags_inside_the_window_than_room_for_them():
    # the window holds all tags, and all of them are carried from feed to feed
    rng = np.random.default_rng(8)
    times, channels = np.sort(rng.integers(0, 1_000, 20_000)), rng.integers(1, 3, 20_000).astype(np.int32)
    histogram = PairHistogram((1, 2), 1_000, 1)
    for part in np.array_split(np.arange(20_000), 7):
        histogram.feed(times[part], channels[part])
    one, two = (np.bincount(times[channels == c], minlength=1_000) for c in (1, 2))
    counts = histogram.read().counts(1, 2)
    np.testing.assert_array_equal(counts[1:], np.correlate(two, one, mode="full"))
    assert counts[0] == 0 and sum(histogram.singles.values()) == 20_000


def test_no_pair_crosses_a_gap():
    times, channels = np.array([10, 20, 55, 70]), np.array([1, 2, 2, 2], np.int32)
    correlation = Correlation((1, 2), 100, 10)
    correlation.update(TagBlock(times, channels, 0, 100, gaps=(Gap(50, 60),)))
    assert correlation.counts(1, 2).sum() == 1  # 10 -> 20; 55 was inside the gap, 70 after it
    assert correlation.live_time_ps == 90


def test_a_hole_between_blocks_is_a_gap():
    correlation = Correlation((1, 2), 100, 10)
    correlation.update(TagBlock(np.array([10]), np.array([1], np.int32), 0, 20))
    correlation.update(TagBlock(np.array([40]), np.array([2], np.int32), 30, 50))
    assert correlation.counts(1, 2).sum() == 0
    assert correlation.live_time_ps == 40


def poisson(rng, rates, duration):
    """Independent Poisson streams, channel k + 1 of mean number rates[k]."""
    parts = [rng.integers(0, duration, rng.poisson(rate)) for rate in rates]
    channels = np.repeat(np.arange(1, len(rates) + 1, dtype=np.int32), [p.size for p in parts])
    times = np.concatenate(parts)
    order = np.argsort(times, kind="stable")
    return times[order].astype(np.int64), channels[order]


def test_g2_of_poisson_light_is_one_at_every_lag_with_gaps():
    # 200 records of 4 us, 25 % lost in gaps, lags to half the record. The excess over the expectation is zero
    # in every bin: 80 bins, Student t with 199 degrees of freedom, |t| < 4.5: false alarm about 1e-3
    gaps = (Gap(1_000_000, 1_600_000), Gap(3_000_000, 3_400_000))
    rng = np.random.default_rng(7)
    excess = {(1, 2): np.zeros((200, 40)), (1, 1): np.zeros((200, 40))}
    for record in range(200):
        times, channels = poisson(rng, (400, 150), 4_000_000)
        correlation = Correlation((1, 2), 2_000_000, 100_000)
        correlation.update(TagBlock(times, channels, 0, 4_000_000, gaps=gaps))
        for pair, rows in excess.items():
            g2 = correlation.g2(*pair)
            rows[record] = g2.counts - g2.expected
    for rows in excess.values():
        measurable = rows.std(axis=0) > 0
        assert measurable.sum() == 28  # the longest live stretch is 1.4 us
        assert np.all(rows[:, ~measurable] == 0)
        mine = rows[:, measurable]
        student = mine.mean(axis=0) / (mine.std(axis=0, ddof=1) / np.sqrt(200))
        assert np.all(np.abs(student) < 4.5)


def test_g2_errors_are_exact_poisson_intervals():
    times, channels = poisson(np.random.default_rng(3), (35, 35), 10**9)
    correlation = Correlation((1, 2), 10_000_000, 1_000_000)
    correlation.update(TagBlock(times, channels, 0, 10**9))
    g2 = correlation.g2(1, 2)
    # Garwood 68.27 % limits of 0, 1 and 2 counts: 0..1.841, 0.173..3.300, 0.708..4.638
    for n, low, high in [(0, 0.0, 1.841), (1, 0.173, 3.300), (2, 0.708, 4.638)]:
        seen = g2.counts == n
        assert seen.any()
        scale = 1.0 / g2.expected[seen]
        np.testing.assert_allclose((g2.values - g2.error_low)[seen] / scale, low, atol=2e-3)
        np.testing.assert_allclose((g2.values + g2.error_high)[seen] / scale, high, atol=2e-3)


def test_g2_does_not_depend_on_origin_or_chunking():
    times, channels = poisson(np.random.default_rng(1), (400, 700), 10**7)
    one, shifted = Correlation((1, 2), 10**6, 10**5), Correlation((1, 2), 10**6, 10**5)
    one.update(TagBlock(times, channels, 0, 10**7))
    far = TagBlock(times + 10**17, channels, 10**17, 10**17 + 10**7)
    for block in cut_at(far, [10**17 + 17, 10**17 + 5_000_000, 10**17 + 5_000_000]):
        shifted.update(block)
    np.testing.assert_array_equal(one.g2(1, 2).values, shifted.g2(1, 2).values)


def test_g2_of_nothing_is_nan():
    g2 = Correlation((1, 2), 100, 10).g2(1, 2)
    assert np.isnan(g2.values).all() and g2.counts.sum() == 0


def test_import_is_light():
    code = "import sys, labctl.timetags; print({'h5py', 'ptufile', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
