"""From the vendor's stream buffers to tag blocks, losing and repeating nothing.

A buffer says how far the tagger had come when it was read; consecutive blocks share these watermarks. What
the tagger lost becomes a gap: between its overflow events, and behind the last tag of a buffer that was full.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.instruments.errors import DataLoss, ProtocolError
from labctl.timetags.block import Gap, TagBlock

Times = NDArray[np.int64]
Channels = NDArray[np.int32]


class StreamBuffer(Protocol):
    """What the vendor's `TimeTagStream.getData()` returns."""

    size: int
    hasOverflows: bool  # noqa: N815 -- the vendor's name
    tStart: int  # noqa: N815
    tGetData: int  # noqa: N815

    def getTimestamps(self) -> Times: ...  # noqa: N802

    def getChannels(self) -> Channels: ...  # noqa: N802

    def getEventTypes(self) -> NDArray[np.uint8]: ...  # noqa: N802

    def getMissedEvents(self) -> NDArray[np.uint16]: ...  # noqa: N802


class BlockMaker:
    """Turns the buffers of one stream, in order, into blocks that cover exactly `duration_ps`.

    capacity: tags that a buffer can hold; a buffer that is full has probably lost tags.
    tag_types: the vendor's enumeration TagType.
    """

    def __init__(
        self, instrument: str, tag_types: Any, *, capacity: int, duration_ps: int, epoch: int
    ) -> None:
        self._instrument = instrument
        self._types = tag_types
        self._capacity = capacity
        self._duration_ps = duration_ps
        self._epoch = epoch
        self._position_ps: int | None = None
        self._end_ps = 0
        self._overflow_ps: int | None = None  # where the overflow that is going on began
        self._missed: dict[int, int] = {}
        self._ahead: tuple[Times, Channels] = (np.empty(0, np.int64), np.empty(0, np.int32))

    @property
    def remaining_ps(self) -> int:
        """Tagger time still to be covered."""
        return self._duration_ps if self._position_ps is None else self._end_ps - self._position_ps

    def convert(self, buffer: StreamBuffer) -> TagBlock | None:
        """The block from the last watermark to that of `buffer`; None if the tagger's time stands still.

        Raises ProtocolError when tags are out of order or the tagger's time runs back, DataLoss when the
        tagger reports an error in its stream.
        """
        if self._position_ps is None:
            self._position_ps = int(buffer.tStart)
            self._end_ps = self._position_ps + self._duration_ps
        begin_ps, watermark_ps = self._position_ps, int(buffer.tGetData)
        end_ps = min(watermark_ps, self._end_ps)
        times, channels, gaps = self._read(buffer, begin_ps, watermark_ps)
        times, channels = self._joined(times, channels, begin_ps, watermark_ps)
        cut = int(np.searchsorted(times, end_ps))
        self._ahead = times[cut:], channels[cut:]
        self._position_ps = end_ps
        if end_ps == begin_ps:
            return None
        clipped = [Gap(max(g.begin_ps, begin_ps), min(g.end_ps, end_ps), g.missed) for g in gaps]
        kept = tuple(gap for gap in clipped if gap.begin_ps < gap.end_ps)
        return TagBlock(times[:cut], channels[:cut], begin_ps, end_ps, kept, self._epoch)

    def _read(self, buffer: StreamBuffer, begin_ps: int, end_ps: int) -> tuple[Times, Channels, list[Gap]]:
        times, channels, types = buffer.getTimestamps(), buffer.getChannels(), buffer.getEventTypes()
        gaps: list[Gap] = []
        if types.any():
            marks = np.flatnonzero(types)
            missed = buffer.getMissedEvents()
            for i in marks:
                self._note(gaps, begin_ps, int(types[i]), int(times[i]), int(channels[i]), int(missed[i]))
            is_tag = types == int(self._types.TimeTag)
            times, channels = times[is_tag], channels[is_tag]
        self._close_gaps(gaps, begin_ps, end_ps, flagged=bool(buffer.hasOverflows))
        if buffer.size >= self._capacity:
            lost_from_ps = max([begin_ps, *(times[-1:] + 1).tolist(), *(gap.end_ps for gap in gaps)])
            gaps.append(Gap(lost_from_ps, max(lost_from_ps, end_ps)))
        return times, channels, gaps

    def _note(
        self, gaps: list[Gap], begin_ps: int, kind: int, time_ps: int, channel: int, count: int
    ) -> None:
        if kind == self._types.OverflowBegin:
            self._overflow_ps = time_ps
        elif kind == self._types.MissedEvents:
            self._missed[channel] = self._missed.get(channel, 0) + count
        elif kind == self._types.OverflowEnd:
            since_ps = begin_ps if self._overflow_ps is None else self._overflow_ps
            gaps.append(Gap(since_ps, time_ps, self._missed))
            self._overflow_ps, self._missed = None, {}
        else:
            raise DataLoss(
                f"the tagger reports an error in its stream at {time_ps} ps",
                instrument=self._instrument,
                command="TimeTagStream.getData",
                hint="its clock source may have changed; check the reference clock and start again",
            )

    def _close_gaps(self, gaps: list[Gap], begin_ps: int, end_ps: int, *, flagged: bool) -> None:
        """A loss without an end lasts to the watermark; one without a place spoils the whole buffer."""
        if self._overflow_ps is not None:
            gaps.append(Gap(min(self._overflow_ps, end_ps), end_ps, self._missed))
            self._overflow_ps = end_ps
        elif self._missed or (flagged and not gaps):
            total = dict(self._missed)
            for gap in gaps:
                total = {c: total.get(c, 0) + gap.missed.get(c, 0) for c in {*total, *gap.missed}}
            gaps[:] = [Gap(begin_ps, end_ps, total)]
        self._missed = {}

    def _joined(self, times: Times, channels: Channels, begin_ps: int, end_ps: int) -> tuple[Times, Channels]:
        """With the tags that an earlier buffer had beyond its watermark; checked for order."""
        if self._ahead[0].size:
            times = np.concatenate((self._ahead[0], times))
            channels = np.concatenate((self._ahead[1], channels))
        if end_ps < begin_ps or (times.size and (times[0] < begin_ps or np.any(times[1:] < times[:-1]))):
            raise ProtocolError(
                f"the tags after {begin_ps} ps are not in time order",
                instrument=self._instrument,
                command="TimeTagStream.getData",
                hint="start the acquisition again; if it happens again, restart the tagger",
            )
        return times, channels
