"""Where a consumer of tag blocks stands in its stream: the watermark, the epoch, and what was live.

Every accumulator owns one `Watermark`. It refuses blocks that overlap, go back in time or belong to
another epoch, and cuts the others into live stretches: tags inside a gap are not part of any stretch,
and a stretch says whether it continues the previous one without a break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock


@dataclass(frozen=True)
class Stretch:
    """Tags of `[begin_ps, end_ps)` during which nothing was lost; `continues` the stretch before it."""

    begin_ps: int
    end_ps: int
    times_ps: NDArray[np.int64]
    channels: NDArray[np.int32]
    continues: bool


class Accumulator(Protocol):
    """A consumer of tag blocks in time order."""

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""


class Watermark:
    """The position in a stream of blocks, shared by composition between all accumulators."""

    def __init__(self) -> None:
        self.live_time_ps = 0
        self.begin_ps: int | None = None
        self.end_ps: int | None = None
        self._epoch: int | None = None
        self._broken = True

    def accept(self, block: TagBlock) -> list[Stretch]:
        """Advance to the end of `block` and return its live stretches.

        Raises ValueError naming the times when the block overlaps or goes back, or the epochs when
        they differ; the watermark is then unchanged.
        """
        self.check(block)
        broken = self._broken or self.end_ps != block.begin_ps
        stretches = []
        cursor = block.begin_ps
        for gap in sorted(block.gaps, key=lambda gap: gap.begin_ps):
            begin, end = max(gap.begin_ps, block.begin_ps), min(gap.end_ps, block.end_ps)
            if begin > end:
                continue
            if begin > cursor:
                stretches.append(_cut(block, cursor, begin, not broken))
            broken = True
            cursor = max(cursor, end)
        if cursor < block.end_ps:
            stretches.append(_cut(block, cursor, block.end_ps, not broken))
            broken = False
        self._advance(block, broken, stretches)
        return stretches

    def check(self, block: TagBlock) -> None:
        """Raise ValueError when `block` cannot follow what was accepted so far."""
        if self._epoch is not None and block.epoch != self._epoch:
            raise ValueError(
                f"block of epoch {block.epoch} at {block.begin_ps} ps follows epoch {self._epoch}: "
                "a stream was restarted; use a new accumulator for it"
            )
        if self.end_ps is not None and block.begin_ps < self.end_ps:
            raise ValueError(
                f"block [{block.begin_ps}, {block.end_ps}) ps begins before the end of the last one "
                f"({self.end_ps} ps): blocks must follow each other in time"
            )

    def _advance(self, block: TagBlock, broken: bool, stretches: list[Stretch]) -> None:
        self._epoch = block.epoch
        self.begin_ps = block.begin_ps if self.begin_ps is None else self.begin_ps
        self.end_ps = block.end_ps
        self._broken = broken
        self.live_time_ps += sum(stretch.end_ps - stretch.begin_ps for stretch in stretches)


def _cut(block: TagBlock, begin_ps: int, end_ps: int, continues: bool) -> Stretch:
    if begin_ps == block.begin_ps and end_ps == block.end_ps:
        return Stretch(begin_ps, end_ps, block.times_ps, block.channels, continues)
    first, last = np.searchsorted(block.times_ps, [begin_ps, end_ps])
    return Stretch(begin_ps, end_ps, block.times_ps[first:last], block.channels[first:last], continues)


def select(stretch: Stretch, channels: Sequence[int]) -> NDArray[np.int64]:
    """Times (int64[n], ps) of the tags on any of `channels`."""
    mask = np.zeros(stretch.channels.shape, dtype=bool)
    for channel in channels:
        mask |= stretch.channels == channel
    return stretch.times_ps[mask]


def whole_ps(name: str, value: int) -> int:
    """`value` as a positive int; ValueError naming it otherwise."""
    if int(value) != value or value <= 0:
        raise ValueError(f"{name} must be a positive whole number of picoseconds, got {value!r}")
    return int(value)
