"""Random tag streams and random ways of cutting them into blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from labctl.timetags import TagBlock

# small steps make ties, bursts and lags that lie exactly on bin edges
STEPS = st.sampled_from([0, 0, 1, 2, 3, 5, 6, 7, 10, 12, 30, 31, 200])


@st.composite
def tags(draw: st.DrawFn, channels: tuple[int, ...] = (1, 2, 3), origin: bool = True, max_size: int = 60):
    """(times int64[n], channels int32[n]), ascending, up to 2**62."""
    steps = draw(st.lists(STEPS, max_size=max_size))
    start = draw(st.sampled_from([0, 1, 10**12, 2**62 - 20_000])) if origin else 0
    numbers = draw(st.lists(st.sampled_from(channels), min_size=len(steps), max_size=len(steps)))
    times = np.cumsum(np.array(steps, np.int64)) + start
    return times.astype(np.int64), np.array(numbers, np.int32)


@st.composite
def chunked(draw: st.DrawFn, channels: tuple[int, ...] = (1, 2, 3), max_size: int = 60):
    """(whole block, the same as consecutive blocks): cuts anywhere in time, empty blocks included."""
    times, numbers = draw(tags(channels=channels, origin=False, max_size=max_size))
    begin, end = 0, int(times.max(initial=0)) + 50
    cuts = sorted(draw(st.lists(st.integers(begin, end), max_size=8)))
    whole = TagBlock(times, numbers, begin, end)
    return whole, cut_at(whole, cuts)


def cut_at(block: TagBlock, cuts: list[int]) -> list[TagBlock]:
    edges = [block.begin_ps, *cuts, block.end_ps]
    return [part(block, lo, hi) for lo, hi in pairwise(edges)]


def part(block: TagBlock, lo: int, hi: int) -> TagBlock:
    inside = (block.times_ps >= lo) & (block.times_ps < hi)
    gaps = tuple(gap for gap in block.gaps if gap.begin_ps < hi and gap.end_ps > lo)
    return TagBlock(block.times_ps[inside], block.channels[inside], lo, hi, gaps, block.epoch)
