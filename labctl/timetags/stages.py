"""What can be done to a stream before it is counted: each stage turns a block into the next block.

Stages go into a `Pipeline`. A stage that looks ahead or moves tags forward holds some back, so that what it
passes on is in time order and complete up to the end of its block; a stretch of time about which it cannot
know everything (behind a gap of the input, at the beginning) is a gap of its output. Live time stays true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import Gap, TagBlock
from labctl.timetags.merge_kernels import merge_sorted


class Stage(Protocol):
    """Takes the blocks of a stream in time order and gives those of another."""

    def process(self, block: TagBlock) -> TagBlock:
        """The next block of the output."""


class Outlet:
    """The output of a stage whose tags depend on input from `earliest_ps` to `latest_ps` around them.

    earliest_ps <= 0 <= latest_ps: output at t is complete when the input reaches t - earliest_ps, and spoilt
    by a gap of the input that touches [t - latest_ps, t - earliest_ps].
    """

    def __init__(self, earliest_ps: int, latest_ps: int) -> None:
        self._earliest, self._latest = earliest_ps, latest_ps
        self._times, self._channels = np.empty(0, np.int64), np.empty(0, np.int32)
        self._gaps: list[Gap] = []
        self._input_end: int | None = None
        self._end = 0

    def push(self, block: TagBlock, times: NDArray[np.int64], channels: NDArray[np.int32]) -> TagBlock:
        """The output up to where `block` completes it; times, channels: all tags made of those of `block`."""
        if self._input_end is None:
            self._end = block.begin_ps + self._latest
        elif self._input_end < block.begin_ps:
            self._add(Gap(self._input_end, block.begin_ps))
        for gap in block.gaps:
            self._add(gap)
        self._input_end = block.end_ps
        times, channels = merge_sorted(self._times, self._channels, times, channels)
        begin, end = self._end, max(self._end, block.end_ps + self._earliest)
        first, last = np.searchsorted(times, [begin, end])
        self._times, self._channels, self._end = times[last:], channels[last:], end
        gaps = self._cut(begin, end)
        return TagBlock(times[first:last], channels[first:last], begin, end, gaps, block.epoch)

    def _add(self, gap: Gap) -> None:
        self._gaps.append(Gap(gap.begin_ps + self._earliest, gap.end_ps + self._latest, gap.missed))

    def _cut(self, begin: int, end: int) -> tuple[Gap, ...]:
        """The parts of the gaps inside [begin, end); what lies behind is kept for later."""
        inside, later = [], []
        for gap in self._gaps:
            missed = gap.missed
            if gap.begin_ps < end:
                inside.append(Gap(max(gap.begin_ps, begin), min(gap.end_ps, end), missed))
                missed = {}
            if gap.end_ps > end:
                later.append(Gap(max(gap.begin_ps, end), gap.end_ps, missed))
        self._gaps = later
        return tuple(inside)


class Delays:
    """Shifts the tags of some channels: delays_ps[channel] is added to their times, be it negative or not."""

    def __init__(self, delays_ps: Mapping[int, int]) -> None:
        self._delays = {int(channel): int(delay) for channel, delay in delays_ps.items()}
        shifts = [0, *self._delays.values()]
        self._outlet = Outlet(min(shifts), max(shifts))

    def process(self, block: TagBlock) -> TagBlock:
        """The block with shifted tags, in time order."""
        unmoved = ~np.isin(block.channels, list(self._delays))
        times, channels = block.times_ps[unmoved], block.channels[unmoved]
        for channel, delay in self._delays.items():
            own = block.channels == channel
            times, channels = merge_sorted(times, channels, block.times_ps[own] + delay, block.channels[own])
        return self._outlet.push(block, times, channels)


class Heralded:
    """Passes tags of `channels` only where a herald came: begin_ps <= t - t_herald < end_ps.

    All other channels pass freely. With 0 <= begin_ps it is a gate that a trigger opens; with begin_ps < 0
    the herald may come later.
    ValueError for an empty window.
    """

    def __init__(self, channels: Sequence[int], herald: int, begin_ps: int, end_ps: int) -> None:
        if begin_ps >= end_ps:
            raise ValueError(f"the window [{begin_ps}, {end_ps}) ps after a herald is empty")
        self._channels, self._herald = np.array(channels, np.int32), int(herald)
        self._begin, self._end = int(begin_ps), int(end_ps)
        self._outlet = Outlet(min(self._begin, 0), max(self._end, 0))
        self._heralds = np.empty(0, np.int64)

    def process(self, block: TagBlock) -> TagBlock:
        """The block without tags that no herald vouches for."""
        new = block.times_ps[block.channels == self._herald]
        heralds = np.concatenate([self._heralds, new])
        out = self._outlet.push(block, block.times_ps, block.channels)
        before = np.searchsorted(heralds, out.times_ps - self._end, side="right")
        until = np.searchsorted(heralds, out.times_ps - self._begin, side="right")
        kept = (before < until) | ~np.isin(out.channels, self._channels)
        self._heralds = heralds[np.searchsorted(heralds, out.end_ps - self._end, side="right") :]
        return _only(out, kept, out.gaps)


@dataclass(frozen=True)
class Windows:
    """Passes only what lies in one of the windows [begin_ps, end_ps); all other time is a gap."""

    windows_ps: tuple[tuple[int, int], ...]

    def process(self, block: TagBlock) -> TagBlock:
        """The block with gaps outside the windows."""
        gaps, cursor = [], block.begin_ps
        for begin, end in sorted(self.windows_ps):
            if min(begin, block.end_ps) > cursor:
                gaps.append(Gap(cursor, min(begin, block.end_ps)))
            cursor = max(cursor, end)
        if cursor < block.end_ps:
            gaps.append(Gap(cursor, block.end_ps))
        return _without(block, gaps)


class Gate:
    """Passes what comes between a tag on `opens` and the next one on `closes`; all other time is a gap.

    It is closed at the beginning and after a gap. The opening tag is inside, the closing one is not; of
    simultaneous ones the opening one wins.
    """

    def __init__(self, opens: int, closes: int) -> None:
        self._opens, self._closes = int(opens), int(closes)
        self._is_open = False
        self._input_end: int | None = None

    def process(self, block: TagBlock) -> TagBlock:
        """The block with gaps where the gate is closed."""
        if self._input_end != block.begin_ps:
            self._is_open = False
        self._input_end = block.end_ps
        gaps, since = [], None if self._is_open else block.begin_ps
        for time, opens in self._events(block):
            if opens and since is not None:
                gaps.append(Gap(since, time))
                since = None
            elif not opens and since is None:
                since = time
        self._is_open = since is None
        if since is not None and since < block.end_ps:
            gaps.append(Gap(since, block.end_ps))
        return _without(block, [gap for gap in gaps if gap.begin_ps < gap.end_ps])

    def _events(self, block: TagBlock) -> list[tuple[int, bool]]:
        """Openings and closings in time order, closings first; a gap of the input closes too."""
        opens = block.times_ps[block.channels == self._opens]
        closes = block.times_ps[block.channels == self._closes]
        lost = [(gap.begin_ps, False) for gap in block.gaps]
        known = [t for t in opens.tolist() if not any(g.begin_ps <= t < g.end_ps for g in block.gaps)]
        return sorted([*((t, True) for t in known), *((t, False) for t in closes.tolist()), *lost])


def _without(block: TagBlock, gaps: Sequence[Gap]) -> TagBlock:
    kept = np.ones(len(block), np.bool_)
    for gap in gaps:
        first, last = np.searchsorted(block.times_ps, [gap.begin_ps, gap.end_ps])
        kept[first:last] = False
    return _only(block, kept, (*block.gaps, *gaps))


def _only(block: TagBlock, kept: NDArray[np.bool_], gaps: tuple[Gap, ...]) -> TagBlock:
    return TagBlock(
        block.times_ps[kept], block.channels[kept], block.begin_ps, block.end_ps, gaps, block.epoch
    )
