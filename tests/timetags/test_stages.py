"""Stages and virtual channels against their definitions, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import (
    Coincident,
    Correlation,
    Counts,
    Delays,
    Either,
    Gap,
    Gate,
    Heralded,
    Pipeline,
    TagBlock,
    Windows,
)
from labctl.timetags.stream import Watermark
from tests.timetags.streams import chunked, cut_at

LISTS_OF_GAPS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=2)


def block(times, channels, begin, end, gaps=()):
    return TagBlock(np.array(times, np.int64), np.array(channels, np.int32), begin, end, gaps)


def passed(stage, blocks):
    """What comes out alive: [begin, end, sorted (time, channel)] of each unbroken stretch."""
    watermark, stretches = Watermark(), []
    for piece in blocks:
        for stretch in watermark.accept(stage.process(piece)):
            tags = list(zip(stretch.times_ps.tolist(), stretch.channels.tolist(), strict=True))
            if stretch.continues:
                stretches[-1][1] = stretch.end_ps
                stretches[-1][2].extend(tags)
            else:
                stretches.append([stretch.begin_ps, stretch.end_ps, tags])
    return [(begin, end, sorted(tags)) for begin, end, tags in stretches if end > begin]


def with_gaps(streams, gaps):
    whole, blocks = streams
    lost = tuple(Gap(begin, begin + length) for begin, length in gaps)
    whole = TagBlock(whole.times_ps, whole.channels, whole.begin_ps, whole.end_ps, lost)
    return whole, cut_at(whole, [piece.end_ps for piece in blocks[:-1]])


def live(whole, earliest, latest, t):
    """Whether everything on which output at t depends was recorded."""
    if not whole.begin_ps + latest <= t < whole.end_ps + earliest:
        return False
    return not any(gap.begin_ps + earliest <= t < gap.end_ps + latest for gap in whole.gaps)


def tags_of(block):
    return list(zip(block.times_ps.tolist(), block.channels.tolist(), strict=True))


@given(
    chunked(),
    LISTS_OF_GAPS,
    st.sampled_from([{1: 30}, {1: -30}, {1: 17, 2: -9}, {2: 500}, {1: 5, 2: 5}, {3: 0}]),
)
def test_delays(streams, gaps, delays):
    whole, blocks = with_gaps(streams, gaps)
    earliest, latest = min(0, *delays.values()), max(0, *delays.values())
    shifted = [(t + delays.get(c, 0), c) for t, c in tags_of(whole)]
    expected = sorted((t, c) for t, c in shifted if live(whole, earliest, latest, t))
    got = passed(Delays(delays), blocks)
    assert [tag for *_, tags in got for tag in tags] == expected
    assert got == passed(Delays(delays), [whole])
    dead = sum(live(whole, earliest, latest, t) for t in range(whole.begin_ps - 600, whole.end_ps + 600))
    assert sum(end - begin for begin, end, _ in got) == dead


@given(chunked(), LISTS_OF_GAPS, st.sampled_from([(0, 10), (5, 30), (-12, 6), (-40, -5), (-3, 1)]))
def test_heralded(streams, gaps, window):
    whole, blocks = with_gaps(streams, gaps)
    lo, hi = window
    heralds = [t for t, c in tags_of(whole) if c == 3]
    expected = sorted(
        (t, c)
        for t, c in tags_of(whole)
        if live(whole, min(lo, 0), max(hi, 0), t) and (c != 1 or any(lo <= t - h < hi for h in heralds))
    )
    got = passed(Heralded([1], 3, lo, hi), blocks)
    assert [tag for *_, tags in got for tag in tags] == expected
    assert got == passed(Heralded([1], 3, lo, hi), [whole])


@given(chunked(), LISTS_OF_GAPS)
def test_gate(streams, gaps):
    whole, blocks = with_gaps(streams, gaps)

    def is_open(t):
        events = [(-1, 0)]
        events += [(u, 2) for u, c in tags_of(whole) if c == 1 and live(whole, 0, 0, u)]
        events += [(u, 1) for u, c in tags_of(whole) if c == 2]
        events += [(gap.begin_ps, 1) for gap in whole.gaps]
        return max(event for event in events if event[0] <= t)[1] == 2

    expected = [(t, c) for t, c in tags_of(whole) if is_open(t) and live(whole, 0, 0, t)]
    got = passed(Gate(1, 2), blocks)
    assert [tag for *_, tags in got for tag in tags] == sorted(expected)
    open_time = sum(is_open(t) and live(whole, 0, 0, t) for t in range(whole.end_ps))
    assert sum(end - begin for begin, end, _ in got) == open_time


@given(chunked(), st.lists(st.tuples(st.integers(-20, 300), st.integers(0, 60)), max_size=3))
def test_windows(streams, windows):
    whole, blocks = streams
    windows = tuple((begin, begin + length) for begin, length in windows)

    def inside(t):
        return any(begin <= t < end for begin, end in windows)

    got = passed(Windows(windows), blocks)
    expected = sorted(tag for tag in tags_of(whole) if inside(tag[0]))
    assert [tag for *_, tags in got for tag in tags] == expected
    assert sum(end - begin for begin, end, _ in got) == sum(inside(t) for t in range(whole.end_ps))


@given(chunked())
def test_either(streams):
    whole, blocks = streams
    expected = tags_of(whole) + [(t, 9) for t, c in tags_of(whole) if c in (1, 3)]
    got = passed(Either([1, 3], 9), blocks)
    assert [tag for *_, tags in got for tag in tags] == sorted(expected)


@given(chunked(), LISTS_OF_GAPS, st.sampled_from([1, 7, 30]), st.sampled_from([(1, 2), (1, 2, 3)]))
def test_coincident(streams, gaps, window, channels):
    whole, blocks = with_gaps(streams, gaps)
    latest, last_live, expected = {}, -1, []
    for t, c in tags_of(whole):
        if not live(whole, 0, 0, t):
            continue
        if any(last_live < gap.begin_ps <= t for gap in whole.gaps):
            latest = {}
        last_live = t
        if c in channels:
            latest[c] = t
        if c in channels and len(latest) == len(channels) and t - min(latest.values()) <= window:
            expected.append((t, 9))
            latest = {}
    got = passed(Coincident(channels, window, 9), blocks)
    assert [tag for *_, tags in got for tag in tags if tag[1] == 9] == expected


def test_a_hole_between_blocks_is_a_gap_for_a_stage_too():
    delayed = passed(Delays({1: 30}), [block([5], [1], 0, 100), block([205, 250], [1, 2], 200, 300)])
    assert delayed == [(30, 100, [(35, 1)]), (230, 300, [(235, 1), (250, 2)])]


def test_pipeline_applies_its_stages_in_order_and_knows_its_live_time():
    inner = Counts([1, 9])
    correlation = Correlation([1, 2], 100, 10)
    pipeline = Pipeline(correlation, Pipeline(inner, stages=[Either([1], 9)]), stages=[Delays({2: -55})])
    pipeline.update(block([100, 160, 900], [1, 2, 1], 0, 1_000))
    assert correlation.counts(1, 2)[10] == 1  # 100 -> 105
    assert inner.counts == {1: 2, 9: 2}
    assert pipeline.live_time_ps == 945 == correlation.live_time_ps


def test_threads_count_the_same():
    rng = np.random.default_rng(2)
    times, channels = np.sort(rng.integers(0, 10**6, 5_000)), rng.integers(1, 3, 5_000)
    results = []
    for threads in (1, 3):
        wide, counts, narrow = Correlation([1, 2], 1_000, 10), Counts([1]), Correlation([1, 2], 100, 10)
        pipeline = Pipeline(wide, counts, narrow, threads=threads)
        pipeline.update(block(times, channels, 0, 10**6))
        results.append([wide.counts(1, 2).tolist(), counts.counts, narrow.counts(2, 1).tolist()])
    assert results[0] == results[1]
    with pytest.raises(ValueError, match="begins before"):
        pipeline.update(block([], [], 0, 10))


def test_snapshot_of_a_pipeline():
    correlation, counts = Correlation([1, 2], 100, 10), Counts([1])
    pipeline = Pipeline(correlation, counts, Pipeline(Counts([2]), threads=2))
    pipeline.update(block([5, 7], [1, 2], 0, 100))
    frozen = pipeline.snapshot()
    pipeline.update(block([105, 107, 109], [1, 1, 2], 100, 200))
    assert frozen[1].counts == {1: 1} and counts.counts == {1: 3}
    assert frozen[0].counts(1, 2).sum() == 1 and correlation.counts(1, 2).sum() == 5
    assert frozen[2].accumulators[0].counts == {2: 1}


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="is empty"):
        Heralded([1], 2, 5, 5)
    with pytest.raises(ValueError, match="at least two channels"):
        Coincident([1, 1], 10, 9)
    with pytest.raises(ValueError, match="window_ps"):
        Coincident([1, 2], 0, 9)
