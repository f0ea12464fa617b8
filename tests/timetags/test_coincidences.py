"""N-fold coincidences against a plain walk through the tags, however the stream is cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import Coincidences, Gap, TagBlock
from tests.timetags.streams import chunked


def groups(times, channels, watched, window):
    found, current, begin = [], set(), None
    for t, c in zip(times.tolist(), channels.tolist(), strict=True):
        if c not in watched:
            continue
        if current and t - begin > window:
            found.append(frozenset(current))
            current = set()
        if not current:
            begin = t
        current.add(c)
    return [*found, frozenset(current)] if current else found


@given(chunked(), st.sampled_from([1, 5, 12, 40]), st.sampled_from([(1, 2, 3), (1, 3)]))
def test_equals_the_definition_however_cut(streams, window, watched):
    whole, blocks = streams
    coincidences = Coincidences(watched, window)
    for block in blocks:
        coincidences.update(block)
    after = whole.end_ps + 100
    coincidences.update(TagBlock(np.empty(0, np.int64), np.empty(0, np.int32), whole.end_ps, after))
    expected = Counter(groups(whole.times_ps, whole.channels, watched, window))
    assert coincidences.counts == dict(expected)
    assert coincidences.exactly(1, 3) == expected[frozenset({1, 3})]
    assert coincidences.at_least(1) == sum(n for pattern, n in expected.items() if 1 in pattern)


def test_order_of_simultaneous_tags_does_not_matter():
    for order in ([1, 2, 3], [3, 1, 2]):
        coincidences = Coincidences([1, 2, 3], 10)
        coincidences.update(TagBlock(np.array([5, 5, 5]), np.array(order, np.int32), 0, 100))
        assert coincidences.counts == {frozenset({1, 2, 3}): 1}


def test_no_group_spans_a_gap():
    coincidences = Coincidences([1, 2], 50)
    tags = np.array([10, 30]), np.array([1, 2], np.int32)
    coincidences.update(TagBlock(*tags, 0, 200, gaps=(Gap(15, 20),)))
    assert coincidences.counts == {frozenset({1}): 1, frozenset({2}): 1}
    assert coincidences.live_time_ps == 195


def test_refuses_unknown_and_too_many_channels():
    with pytest.raises(KeyError, match="channel 7"):
        Coincidences([1, 2], 10).exactly(1, 7)
    with pytest.raises(ValueError, match="1 to 20 channels"):
        Coincidences(range(21), 10)
