"""One acquisition cut into the pixels of a raster by the markers that the scanner sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import Gap, TagBlock
from labctl.timetags.stream import Accumulator, Watermark, whole_ps

_Kind = TypeVar("_Kind", bound=Accumulator)


class Raster(Generic[_Kind]):
    """One accumulator per pixel of an image of shape (rows, columns), made by `make` at its first visit.

    marker: channel of the marker that begins each line; its pixels follow it in steps of dwell_ps. Without
    dwell_ps the marker begins each pixel, which lasts until the next marker. frame: channel of a marker that
    starts again at the first row; without it the rows follow each other round and round. Light before the
    first marker, between lines, and beyond the last row of a frame belongs to no pixel. A gap that hides a
    marker shifts the rows behind it, until the next frame marker.

    `pixels` is {(row, column): accumulator}; each knows its own live time.
    """

    def __init__(
        self,
        make: Callable[[], _Kind],
        shape: tuple[int, int],
        marker: int,
        dwell_ps: int | None = None,
        frame: int | None = None,
    ) -> None:
        self.pixels: dict[tuple[int, int], _Kind] = {}
        self._make, self._shape = make, (int(shape[0]), int(shape[1]))
        if min(self._shape) < 1:
            raise ValueError(f"a raster of shape {shape} has no pixels")
        self._marker, self._frame = int(marker), frame
        self._dwell = None if dwell_ps is None else whole_ps("dwell_ps", dwell_ps)
        self._watermark = Watermark()
        self._line_begin: int | None = None
        self._lines = -1  # markers since the frame began, less one

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        self._watermark.accept(block)
        begin = block.begin_ps
        for time, starts_frame in self._markers(block):
            self._fill(block, begin, time)
            if starts_frame:
                self._line_begin, self._lines = None, -1
            else:
                self._line_begin, self._lines = time, self._lines + 1
            begin = time
        self._fill(block, begin, block.end_ps)

    def _markers(self, block: TagBlock) -> list[tuple[int, bool]]:
        """Times of markers and whether they begin a frame, which comes before a simultaneous line."""
        is_frame = block.channels == self._frame if self._frame is not None else np.zeros(len(block), bool)
        chosen = is_frame | (block.channels == self._marker)
        found = zip(block.times_ps[chosen].tolist(), is_frame[chosen].tolist(), strict=True)
        return sorted(found, key=lambda marker: (marker[0], not marker[1]))

    def _fill(self, block: TagBlock, begin: int, end: int) -> None:
        """Give [begin, end), in which there is no marker, to the pixels of the current line."""
        if self._line_begin is None or begin >= end:
            return
        columns = self._shape[1]
        if self._dwell is None:
            row, column = divmod(self._lines, columns)
            self._give(block, row, column, begin, end)
            return
        first = (begin - self._line_begin) // self._dwell
        last = min((end - 1 - self._line_begin) // self._dwell, columns - 1)
        for column in range(first, last + 1):
            pixel_begin = self._line_begin + column * self._dwell
            self._give(
                block, self._lines, column, max(begin, pixel_begin), min(end, pixel_begin + self._dwell)
            )

    def _give(self, block: TagBlock, row: int, column: int, begin: int, end: int) -> None:
        if row >= self._shape[0]:
            if self._frame is not None:
                return
            row %= self._shape[0]
        if (row, column) not in self.pixels:
            self.pixels[row, column] = self._make()
        self.pixels[row, column].update(part_of(block, begin, end))

    def image(self, value: Callable[[_Kind], float]) -> NDArray[np.float64]:
        """float64[rows, columns]: `value` of each pixel's accumulator, NaN where the scanner has not been."""
        image = np.full(self._shape, np.nan)
        for position, accumulator in self.pixels.items():
            image[position] = value(accumulator)
        return image


def part_of(block: TagBlock, begin_ps: int, end_ps: int) -> TagBlock:
    """The part [begin_ps, end_ps) of a block, with what gaps there are in it."""
    first, last = np.searchsorted(block.times_ps, [begin_ps, end_ps])
    gaps = tuple(
        Gap(max(gap.begin_ps, begin_ps), min(gap.end_ps, end_ps), gap.missed)
        for gap in block.gaps
        if gap.begin_ps < end_ps and gap.end_ps > begin_ps
    )
    times, channels = block.times_ps[first:last], block.channels[first:last]
    return TagBlock(times, channels, begin_ps, end_ps, gaps, block.epoch)
