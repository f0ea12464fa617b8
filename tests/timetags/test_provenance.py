"""From a bin back to its tags: the same pairs that the correlation counts, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import Correlation, Gap, Provenance, TagBlock
from tests.timetags.streams import chunked, cut_at

PAIRS = st.sampled_from([(1, 2), (2, 1), (1, 1)])
BINS = st.sampled_from([(0, 6), (-6, 0), (12, 18), (-30, -24), (-60, 60)])
GAPS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=2)


@given(chunked(), PAIRS, BINS, GAPS)
def test_finds_what_the_correlation_counts(streams, pair, bin_ps, gaps):
    whole, blocks = streams
    lost = tuple(Gap(begin, begin + length) for begin, length in gaps)
    whole = TagBlock(whole.times_ps, whole.channels, whole.begin_ps, whole.end_ps, lost)
    provenance, correlation = Provenance(*pair, *bin_ps), Correlation((1, 2), 60, 6)
    for block in cut_at(whole, [piece.end_ps for piece in blocks[:-1]]):
        provenance.update(block)
        correlation.update(block)
    found = provenance.pairs
    first, last = (edge // 6 + 10 for edge in bin_ps)
    assert len(found.numbers) == correlation.counts(*pair)[first:last].sum()
    i, j = found.numbers.T
    assert np.array_equal(whole.times_ps[found.numbers], found.times_ps)
    assert (whole.channels[i] == pair[0]).all() and (whole.channels[j] == pair[1]).all()
    lags = found.times_ps[:, 1] - found.times_ps[:, 0]
    assert ((lags >= bin_ps[0]) & (lags < bin_ps[1])).all()
    assert len({tuple(row) for row in found.numbers.tolist()}) == len(i)
    assert (i != j).all()
    assert provenance.live_time_ps == correlation.live_time_ps


def test_refuses_an_empty_bin():
    with pytest.raises(ValueError, match="is empty"):
        Provenance(1, 2, 5, 5)
