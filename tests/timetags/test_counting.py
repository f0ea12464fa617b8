"""Counting accumulators against plain definitions; what every accumulator refuses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import (
    Correlation,
    Counts,
    DecayHistogram,
    Gap,
    IntensityTrace,
    Pipeline,
    PulsedCorrelation,
    SyncedTrace,
    TagBlock,
)
from tests.timetags.streams import chunked, cut_at

ACCUMULATORS = {
    "Counts": lambda: Counts([1]),
    "Correlation": lambda: Correlation([1, 2]),
    "PulsedCorrelation": lambda: PulsedCorrelation(1, 2, 3, 100, 2),
    "DecayHistogram": lambda: DecayHistogram(1, 3, 10, 100),
    "IntensityTrace": lambda: IntensityTrace([1], 100),
    "SyncedTrace": lambda: SyncedTrace([1], 4, 100),
    "Pipeline": lambda: Pipeline(Counts([1])),
}


def empty(begin, end, **options):
    return TagBlock(np.empty(0, np.int64), np.empty(0, np.int32), begin, end, **options)


def block(times, channels, begin, end, **options):
    return TagBlock(np.array(times, np.int64), np.array(channels, np.int32), begin, end, **options)


@pytest.mark.parametrize("make", ACCUMULATORS.values(), ids=ACCUMULATORS)
def test_refuses_overlap_and_another_epoch(make):
    accumulator = make()
    accumulator.update(empty(100, 200))
    with pytest.raises(ValueError, match=r"\[150, 250\) ps .*\(200 ps\)"):
        accumulator.update(empty(150, 250))
    with pytest.raises(ValueError, match=r"epoch 1 at 200 ps follows epoch 0"):
        accumulator.update(empty(200, 300, epoch=1))
    accumulator.update(empty(200, 300, gaps=(Gap(210, 220), Gap(215, 240))))
    assert accumulator.live_time_ps == 170


def test_counts_and_rate():
    counts = Counts([1, -5])
    assert np.isnan(counts.rate(1))
    counts.update(block([1, 2, 3, 60], [1, -5, 1, 1], 0, 10**6, gaps=(Gap(50, 500_050),)))
    assert counts.counts == {1: 2, -5: 1}
    assert counts.rate(1) == pytest.approx(2 / 0.5e-6)


@given(chunked())
def test_intensity_trace(streams):
    whole, blocks = streams
    trace = IntensityTrace([1, 2], 13)
    for piece in blocks:
        trace.update(piece)
    edges = np.arange(0, whole.duration_ps + 1, 13)
    mine = whole.times_ps[np.isin(whole.channels, [1, 2])]
    np.testing.assert_array_equal(trace.counts, np.histogram(mine[mine < edges[-1]], edges)[0])
    assert trace.begin_ps == 0 and (trace.live_ps == 13).all()


@given(chunked(), st.integers(1, 5))
def test_a_trace_in_wider_bins(streams, factor):
    _, blocks = streams
    fine, wide = IntensityTrace([1, 2], 7), IntensityTrace([1, 2], 7 * factor)
    for piece in blocks:
        fine.update(piece)
        wide.update(piece)
    counts, live_ps = fine.coarser(factor)
    np.testing.assert_array_equal(counts, wide.counts)
    np.testing.assert_array_equal(live_ps, wide.live_ps)
    with pytest.raises(ValueError, match="factor"):
        fine.coarser(0)


def test_intensity_trace_knows_its_dead_bins():
    trace = IntensityTrace([1], 10)
    trace.update(block([5, 18, 33], [1, 1, 1], 0, 40, gaps=(Gap(12, 31),)))
    assert trace.counts.tolist() == [1, 0, 0, 1]
    assert trace.live_ps.tolist() == [10, 2, 0, 9]


def synced_by_definition(times, channels, period):
    syncs = times[channels == 3]
    intervals = list(pairwise(syncs))
    kept = [(lo, hi) for lo, hi in intervals if hi - lo <= 1.5 * period]
    photons = times[np.isin(channels, [1, 2])]
    counts = [int(np.sum((photons >= lo) & (photons < hi))) for lo, hi in kept]
    return counts, [int(lo) for lo, _ in kept], len(intervals) - len(kept)


@given(chunked(), st.sampled_from([5, 20, 500]))
def test_synced_trace(streams, period):
    whole, blocks = streams
    trace = SyncedTrace([1, 2], 3, period)
    for piece in blocks:
        trace.update(piece)
    counts, begins, skipped = synced_by_definition(whole.times_ps, whole.channels, period)
    assert trace.counts.tolist() == counts
    assert trace.begins_ps.tolist() == begins
    assert trace.skipped == skipped
    assert trace.counts.dtype == np.int32 and trace.begins_ps.dtype == np.int64


def test_synced_trace_drops_the_interval_with_a_gap():
    trace = SyncedTrace([1], 4, 100)
    trace.update(
        block([0, 10, 100, 120, 200, 210, 300], [4, 1, 4, 1, 4, 1, 4], 0, 301, gaps=(Gap(130, 140),))
    )
    assert trace.begins_ps.tolist() == [0, 200]
    assert trace.counts.tolist() == [1, 1]
    assert trace.skipped == 1


def test_pipeline_feeds_all_or_none():
    counts, trace = Counts([1]), IntensityTrace([1], 10)
    pipeline = Pipeline(counts, trace)
    pipeline.update(block([3], [1], 0, 20))
    with pytest.raises(ValueError, match="begins before"):
        pipeline.update(block([3], [1], 0, 20))
    assert counts.counts == {1: 1} and trace.counts.tolist() == [1, 0]


def test_a_gap_of_no_length_still_breaks_the_stream():
    correlation = Correlation([1], 100, 10)
    correlation.update(block([5], [1], 0, 10, gaps=(Gap(10, 10, {1: 3}),)))
    correlation.update(block([12], [1], 10, 20))
    assert correlation.counts(1, 1).sum() == 0 and correlation.live_time_ps == 20


@given(chunked(channels=(1, 2, 3)), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=3))
def test_gaps_give_the_same_however_blocks_are_cut(streams, gaps):
    whole, blocks = streams
    lost = tuple(Gap(begin, begin + length) for begin, length in gaps)
    cuts = [piece.end_ps for piece in blocks[:-1]]
    whole = TagBlock(whole.times_ps, whole.channels, whole.begin_ps, whole.end_ps, lost)
    results = [summary_of([whole]), summary_of(cut_at(whole, cuts))]
    assert results[0] == results[1]


def summary_of(blocks):
    counts, trace, synced = Counts([1, 2]), IntensityTrace([1, 2], 17), SyncedTrace([1], 3, 20)
    correlation, pulsed = Correlation([1, 2], 60, 6), PulsedCorrelation(1, 2, 3, 12, 3)
    pipeline = Pipeline(counts, trace, synced, correlation, pulsed)
    for piece in blocks:
        pipeline.update(piece)
    g2 = correlation.g2(1, 2)
    return [
        pipeline.live_time_ps,
        counts.counts,
        trace.counts.tolist(),
        trace.live_ps.tolist(),
        synced.counts.tolist(),
        synced.begins_ps.tolist(),
        synced.skipped,
        g2.counts.tolist(),
        g2.expected.tolist(),
        pulsed.counts.tolist(),
        pulsed.singles,
        pulsed.unassigned,
    ]
