"""Mistakes that correlators in use have made, each of which a plausible implementation can repeat."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.timetags import Correlation, TagBlock, correlate, correlate_reference


def stream(seed, n, duration, channels=(1, 2), weights=None):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, duration, n))
    return times, rng.choice(np.array(channels, np.int32), n, p=weights)


def block(times, channels, begin, end):
    return TagBlock(np.array(times, np.int64), np.array(channels, np.int32), begin, end)


@pytest.mark.parametrize(("window", "width"), [(100_000, 1_000), (102_400, 800), (3_000, 1), (700, 7)])
def test_as_many_bins_as_asked_for(window, width):
    # a floating-point quotient truncates 100 ns / 1 ns to 99 bins and shifts the negative side by one
    times, channels = stream(1, 2_000, 10**7)
    counts = correlate(times, channels, 1, 2, window, width)
    assert counts.size == 2 * window // width
    np.testing.assert_array_equal(counts, correlate_reference(times, channels, 1, 2, window, width))


@pytest.mark.parametrize("per_window", [150, 6_000])
def test_no_limit_on_the_tags_within_a_window(per_window):
    # a ring of 100 or 4096 starts drops pairs in silence
    times, channels = stream(2, per_window + 500, 1_000_000)
    window = 1_000_000 // 2
    np.testing.assert_array_equal(
        correlate(times, channels, 1, 2, window, 5_000),
        correlate_reference(times, channels, 1, 2, window, 5_000),
    )


def test_stops_before_starts_count():
    # unsigned differences wrap: everything is lost once a stop precedes a start
    counts = correlate(np.array([10, 12]), np.array([2, 1], np.int32), 1, 2, 5, 1)
    assert counts.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_channels_of_unequal_length():
    for weights in ([0.01, 0.99], [0.99, 0.01]):
        times, channels = stream(3, 5_000, 10**6, weights=weights)
        np.testing.assert_array_equal(
            correlate(times, channels, 1, 2, 1_000, 10), correlate_reference(times, channels, 1, 2, 1_000, 10)
        )


def test_a_lag_of_exactly_the_window():
    # +window lies behind the last bin: neither counted in it nor written past the end of the array
    times, channels = np.array([0, 100]), np.array([1, 2], np.int32)
    assert correlate(times, channels, 1, 2, 100, 10).sum() == 0
    reversed_pair = correlate(times, channels, 2, 1, 100, 10)
    assert reversed_pair[0] == 1 == reversed_pair.sum()


def test_pairs_across_blocks_are_kept():
    correlation = Correlation((1, 2), 100, 10)
    correlation.update(block([95], [1], 0, 100))
    correlation.update(block([], [], 100, 110))
    correlation.update(block([115], [2], 110, 200))
    assert correlation.counts(1, 2)[12] == 1


def test_the_tail_of_the_stream_is_counted():
    # a correlator that works in batches must not forget the last, incomplete one
    times, channels = stream(4, 16_384 + 7, 10**8)
    tail = correlate(times[-7:], channels[-7:], 1, 2, 10**6, 10**5)
    without = correlate(times[:-7], channels[:-7], 1, 2, 10**6, 10**5)
    assert correlate(times, channels, 1, 2, 10**6, 10**5).sum() >= tail.sum() + without.sum()
    np.testing.assert_array_equal(
        correlate(times, channels, 1, 2, 10**6, 10**5),
        correlate_reference(times, channels, 1, 2, 10**6, 10**5),
    )


def test_histograms_hold_more_than_32_bits():
    histogram = Correlation((1,), 10, 10)
    histogram.update(block(np.zeros(70_000, np.int64), np.ones(70_000, np.int32), 0, 1))
    counts = histogram.counts(1, 1)
    assert counts.dtype == np.int64
    assert counts.tolist() == [0, 70_000 * 69_999]


def test_normalisation_knows_neither_origin_nor_record_length():
    # a record only twice as long as the window: its origin and its overlap with the window matter
    expected = {}
    for origin in (0, 10**12, -(10**12)):
        correlation = Correlation((1, 2), 1_000, 100)
        times = np.arange(0, 2_000, 10) + origin
        correlation.update(block(times, np.tile([1, 2], 100), origin, origin + 2_000))
        expected[origin] = correlation.g2(1, 2)
    np.testing.assert_array_equal(expected[0].values, expected[10**12].values)
    np.testing.assert_array_equal(expected[0].values, expected[-(10**12)].values)
    # a regular comb has g2 = 1 at every lag that averages over the comb, up to half the record
    np.testing.assert_allclose(expected[0].values, 1.0, atol=0.02)
