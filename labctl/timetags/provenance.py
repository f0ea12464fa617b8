"""From a bin of a correlation back to the tags in it: which photons made this coincidence?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.stream import Stretch, Watermark


@dataclass(frozen=True)
class FoundPairs:
    """Pairs of tags, one row each: a's tag, then b's.

    numbers: int64[n, 2], position of each tag in the stream, tags of all channels counted from 0.
    times_ps: int64[n, 2].
    """

    numbers: NDArray[np.int64]
    times_ps: NDArray[np.int64]


@dataclass(frozen=True)
class _Tags:
    times_ps: NDArray[np.int64]
    numbers: NDArray[np.int64]

    def join(self, other: _Tags) -> _Tags:
        return _Tags(
            np.concatenate([self.times_ps, other.times_ps]), np.concatenate([self.numbers, other.numbers])
        )

    def part(self, first: int, last: int | None = None) -> _Tags:
        return _Tags(self.times_ps[first:last], self.numbers[first:last])


_NONE = _Tags(np.empty(0, np.int64), np.empty(0, np.int64))


class Provenance:
    """Keeps every pair of tags with begin_ps <= t_b - t_a < end_ps: the contents of a bin, tag by tag.

    As many pairs as `Correlation` counts in that bin, in the order of a's tags: no pair across a gap, none of
    a tag with itself. Memory grows with the number of pairs found. ValueError for an empty bin.
    """

    def __init__(self, a: int, b: int, begin_ps: int, end_ps: int) -> None:
        if begin_ps >= end_ps:
            raise ValueError(f"the bin [{begin_ps}, {end_ps}) ps is empty")
        self._a, self._b = int(a), int(b)
        self._begin, self._end = int(begin_ps), int(end_ps)
        self._watermark = Watermark()
        self._seen = 0
        self._starts, self._stops = _NONE, _NONE
        self._found: list[FoundPairs] = []

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def pairs(self) -> FoundPairs:
        """All pairs so far."""
        parts = [*self._found, self._match(self._starts)]
        numbers, times = [part.numbers for part in parts], [part.times_ps for part in parts]
        return FoundPairs(np.concatenate(numbers), np.concatenate(times))

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._found.append(self._match(self._starts))
                self._starts, self._stops = _NONE, _NONE
            first = self._seen + int(np.searchsorted(block.times_ps, stretch.begin_ps))
            self._add(stretch, first)
        self._seen += len(block)

    def _add(self, stretch: Stretch, first: int) -> None:
        numbers = first + np.arange(stretch.times_ps.size, dtype=np.int64)
        for_a, for_b = stretch.channels == self._a, stretch.channels == self._b
        self._starts = self._starts.join(_Tags(stretch.times_ps[for_a], numbers[for_a]))
        self._stops = self._stops.join(_Tags(stretch.times_ps[for_b], numbers[for_b]))
        # a start is done when every stop that it could pair with is known
        done = int(np.searchsorted(self._starts.times_ps, stretch.end_ps - self._end, side="right"))
        self._found.append(self._match(self._starts.part(0, done)))
        self._starts = self._starts.part(done)
        oldest = min([stretch.end_ps, *self._starts.times_ps[:1].tolist()])
        self._stops = self._stops.part(int(np.searchsorted(self._stops.times_ps, oldest + self._begin)))

    def _match(self, starts: _Tags) -> FoundPairs:
        first = np.searchsorted(self._stops.times_ps, starts.times_ps + self._begin)
        number = np.searchsorted(self._stops.times_ps, starts.times_ps + self._end) - first
        start = np.repeat(np.arange(starts.times_ps.size), number)
        stop = first[start] + np.arange(start.size) - np.repeat(np.cumsum(number) - number, number)
        numbers = np.column_stack([starts.numbers[start], self._stops.numbers[stop]])
        times = np.column_stack([starts.times_ps[start], self._stops.times_ps[stop]])
        distinct = numbers[:, 0] != numbers[:, 1]
        return FoundPairs(numbers[distinct], times[distinct])
