"""A tag file on disk as a stream of tag blocks: mapped, decoded slice by slice, never all in memory.

Photon channels keep the number that the file gives them (0 is the first input of a HydraHarp). T2 sync
records are channel 999 and a marker with bits m is channel 1000 + m, so that neither can be taken for a
detector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.headers import Header, TagFileError, parse_header
from labctl.timetags.records import SYNC_CHANNEL, UNKNOWN_CHANNEL, Decoder, Tags, tag_records

_HEADER_BYTES = 1 << 24  # headers may embed comments and pictures
_SLICE = 1 << 20


@dataclass(frozen=True)
class DecodedSlice:
    """Tags of records.size records from first_record on, those records, and the overflow after them."""

    first_record: int
    records: NDArray[np.uint32]
    tags: Tags
    overflow: int


@dataclass(frozen=True)
class T3Records:
    """T3 tags as recorded: channels int32[n], nsync int64[n] (absolute sync number), dtimes int32[n]."""

    channels: NDArray[np.int32]
    nsync: NDArray[np.int64]
    dtimes: NDArray[np.int32]


class TagFile:
    """One tag file; see `read_tags`.

    mode: "T2" or "T3". resolution_ps: unit of T2 times or of T3 dtimes. sync_period_ps: T3 only, else None.
    records: number of TTTR records in use; stated_records: as the header says (0 after an aborted
    measurement);
    surplus_records: further whole records behind them. header: the file's own names and values.
    """

    def __init__(self, path: Path, header: Header, raw_records: NDArray[np.uint32], surplus: int = 0) -> None:
        self.path = path
        self.kind = header.kind
        self.mode = header.kind.mode
        self.header: dict[str, Any] = header.values
        self.resolution_ps = header.resolution_ps
        self.sync_period_ps = header.sync_period_ps
        self.stated_records = header.n_records
        self.surplus_records = surplus
        self._raw = raw_records
        self.records = int(raw_records.size)

    @property
    def channels(self) -> dict[int, int]:
        """Number of tags by channel (photons, 999 sync, 1000 + m markers), ascending by channel."""
        return dict(self._summary[0])

    @property
    def duration_s(self) -> float:
        """Time from the start to the last record, overflow records included, in s."""
        return self._summary[1] * 1e-12

    @property
    def photon_channels(self) -> list[int]:
        """Detector channels with at least one tag."""
        return [channel for channel in self.channels if channel < SYNC_CHANNEL]

    def slices(self, max_records: int = _SLICE) -> Iterator[DecodedSlice]:
        """Decode the file in consecutive slices of up to max_records records, unknown records included."""
        decoder = Decoder(self.kind)
        for first in range(0, self.records, max_records):
            records = np.require(self._raw[first : first + max_records], requirements="A")
            tags = decoder.decode(records)
            yield DecodedSlice(first, records, tags, decoder.overflow)

    def blocks(self, max_tags: int = 1_000_000) -> Iterator[TagBlock]:
        """The tags as blocks of consecutive time from 0 on, each of about max_tags tags at most.

        T3 times are nsync * sync_period_ps + dtime * resolution_ps, rounded to ps.
        Raises TagFileError naming the record where the clock of the file goes back.
        """
        begin = 0
        held = TagBlock(np.empty(0, np.int64), np.empty(0, np.int32), 0, 0)
        last_clock = 0
        for piece in self.slices(max_tags):
            last_clock = self._check_order(piece, last_clock)
            tags = _known(piece.tags)
            if tags.clock.size == 0:
                continue
            # nothing recorded later can be earlier than the last clock value
            end = self.clock_ps(last_clock)
            times = np.concatenate([held.times_ps, self.times_ps(tags)])
            channels = np.concatenate([held.channels, tags.channels])
            held, ready = _split(times, channels, begin, end)
            yield ready
            begin = end
        end = max(self.duration_ps, begin, int(held.times_ps.max(initial=-1)) + 1)
        yield TagBlock(held.times_ps, held.channels, begin, end)

    def t3_records(self, max_records: int = _SLICE) -> Iterator[T3Records]:
        """T3 tags as recorded, in file order.

        Raises ValueError for a T2 file, TagFileError naming the record where the sync number goes back.
        """
        if self.mode != "T3":
            raise ValueError(f"{self.path.name} is a {self.mode} file: it has no sync numbers and dtimes")
        last_clock = 0
        for piece in self.slices(max_records):
            last_clock = self._check_order(piece, last_clock)
            tags = _known(piece.tags)
            yield T3Records(tags.channels, tags.clock, tags.dtimes)

    def clock_ps(self, clock: int) -> int:
        """A T2 time or T3 sync number in ps, rounded."""
        unit_ps = self.resolution_ps if self.sync_period_ps is None else self.sync_period_ps
        return clock * int(unit_ps) if unit_ps.is_integer() else round(clock * unit_ps)

    def times_ps(self, tags: Tags) -> NDArray[np.int64]:
        """Absolute times of decoded tags: int64[n] in ps."""
        if self.sync_period_ps is None:
            return _scaled(tags.clock, self.resolution_ps)
        delays = tags.dtimes * self.resolution_ps
        if self.sync_period_ps.is_integer():
            return tags.clock * int(self.sync_period_ps) + np.rint(delays).astype(np.int64)
        return np.rint(tags.clock * self.sync_period_ps + delays).astype(np.int64)

    @property
    def duration_ps(self) -> int:
        """Time from the start to just after the last record, overflow records included, in ps."""
        return self._summary[1]

    @cached_property
    def _summary(self) -> tuple[dict[int, int], int]:
        counts: dict[int, int] = {}
        duration_ps = 0
        for piece in self.slices():
            tags = _known(piece.tags)
            for channel, number in zip(*np.unique(tags.channels, return_counts=True), strict=True):
                counts[int(channel)] = counts.get(int(channel), 0) + int(number)
            last = int(self.times_ps(tags).max(initial=-1)) + 1
            duration_ps = max(duration_ps, last, self.clock_ps(piece.overflow))
        return dict(sorted(counts.items())), duration_ps

    def _check_order(self, piece: DecodedSlice, last_clock: int) -> int:
        """The last clock value of `piece`; TagFileError where the clock goes back."""
        steps = np.diff(piece.tags.clock, prepend=last_clock)
        backwards = np.flatnonzero(steps < 0)
        if backwards.size:
            first = int(backwards[0])
            record = piece.first_record + int(tag_records(piece.records, self.kind)[first])
            raise TagFileError(
                f"{self.path.name}: record {record} goes back by {self.clock_ps(-int(steps[first]))} ps: "
                "an overflow record may be missing, or records are out of order"
            )
        return last_clock + int(steps.sum())


def read_tags(path: str | PathLike[str]) -> TagFile:
    """Open a PicoQuant tag file: PTU (all types of `records.RECORD_TYPES`) or HydraHarp HT2/HT3 2.0.

    Raises TagFileError, in one line, for a foreign, damaged or truncated file; OSError when it cannot be
    read.
    """
    path = Path(path)
    with path.open("rb") as file:
        header = parse_header(path.name, file.read(_HEADER_BYTES))
    available = max(path.stat().st_size - header.data_offset, 0)
    held = available // 4
    if held < header.n_records:
        raise TagFileError(
            f"{path.name}: truncated, the header says {header.n_records} records but the file holds {held} "
            f"(it ends inside or before record {held})"
        )
    used = header.n_records if header.n_records > 0 else held
    if used == 0:
        return TagFile(path, header, np.empty(0, np.uint32))
    records = np.memmap(path, np.dtype("<u4"), mode="r", offset=header.data_offset, shape=(used,))
    return TagFile(path, header, np.asarray(records), held - used)


def _known(tags: Tags) -> Tags:
    known = tags.channels < UNKNOWN_CHANNEL
    if known.all():
        return tags
    return Tags(tags.channels[known], tags.clock[known], tags.dtimes[known])


def _scaled(clock: NDArray[np.int64], unit_ps: float) -> NDArray[np.int64]:
    if unit_ps == 1.0:
        return clock
    if unit_ps.is_integer():
        return clock * int(unit_ps)
    return np.rint(clock * unit_ps).astype(np.int64)


def _split(
    times: NDArray[np.int64], channels: NDArray[np.int32], begin: int, end: int
) -> tuple[TagBlock, TagBlock]:
    """(tags at or after `end`, held back; block [begin, end)), each in time order."""
    if np.any(times[1:] < times[:-1]):
        order = np.argsort(times, kind="stable")
        times, channels = times[order], channels[order]
    cut = int(np.searchsorted(times, end))
    rest_end = int(times[-1]) + 1 if cut < times.size else end
    rest = TagBlock(times[cut:], channels[cut:], end, rest_end)
    return rest, TagBlock(times[:cut], channels[:cut], begin, end)
