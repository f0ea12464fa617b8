"""Start-stop histograms: the definition, the bias that comes with it, and what undoes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from labctl.timetags import Correlation, Gap, StartStop, TagBlock
from tests.timetags.streams import chunked


@given(chunked())
def test_equals_the_definition_however_cut(streams):
    whole, blocks = streams
    histogram = StartStop(1, 2, 30, 5)
    for block in blocks:
        histogram.update(block)
    starts = whole.times_ps[whole.channels == 1].tolist()
    stops = whole.times_ps[whole.channels == 2].tolist()
    lags = [min((u - t for u in stops if u >= t), default=10**9) for t in starts]
    expected = np.histogram([lag for lag in lags if lag < 30], np.arange(0, 31, 5))[0]
    np.testing.assert_array_equal(histogram.counts, expected)
    assert histogram.starts == len(starts)  # the stream ends 50 ps behind its last tag
    assert histogram.live_time_ps == whole.duration_ps


def test_its_bias_and_its_cure():
    # 5 Mcps of stops over 400 ns: the histogram falls by exp(-2), the correlation does not. 40 bins with
    # 340 to 2500 counts, false alarm about 1e-3: 4.3 sigma
    rng = np.random.default_rng(4)
    duration = 50_000_000_000
    times = np.sort(rng.integers(0, duration, rng.poisson(10e6 * 0.05)))
    channels = rng.integers(1, 3, times.size).astype(np.int32)
    block = TagBlock(times, channels, 0, duration)
    histogram, correlation = StartStop(1, 2, 400_000, 10_000), Correlation((1, 2), 400_000, 10_000)
    histogram.update(block)
    correlation.update(block)
    ratio = histogram.counts / correlation.counts(1, 2)[40:]
    expected = np.exp(-5e6 * 1e-12 * (histogram.lag_edges_ps[:-1] + 5_000))
    np.testing.assert_allclose(ratio, expected, atol=0.03)
    at_risk = histogram.starts - np.cumsum(histogram.counts)
    sigma = np.sqrt(histogram.counts) / at_risk
    assert np.all(np.abs(histogram.unbiased - 0.05) < 4.3 * sigma)


def test_a_start_that_a_gap_cuts_off_is_forgotten():
    histogram = StartStop(1, 2, 100, 10)
    times = np.array([10, 50, 120]), np.array([1, 1, 2], np.int32)
    histogram.update(TagBlock(*times, 0, 300, gaps=(Gap(20, 30),)))
    assert histogram.starts == 1 and histogram.counts.tolist() == [0] * 7 + [1, 0, 0]


@pytest.mark.parametrize(("arguments", "match"), [((1, 1), "both channel 1"), ((1, 2, 10, 3), "multiple")])
def test_refuses_bad_settings(arguments, match):
    with pytest.raises(ValueError, match=match):
        StartStop(*arguments)
