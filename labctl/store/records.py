"""The record format of a journal, and how it is read: what a crash or a bad disk spoilt is passed over.

A record is `magic | kind | seq | length | crc32 | payload`, the payload a JSON header followed by raw bytes.
A journal is one file, or several segments of which all but the last are complete: `run.journal`,
`run.0002.journal` and so on. Behind a spoilt record the reader looks for the next one whose checksum is
right, so that damage costs only the records that it hits.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .disk import Buffer
from .errors import StoreError

MAGIC = b"LJ2\n"
OLD_MAGIC = b"LJ1\n"
_FRAME = struct.Struct("<4sIQQ")  # magic, kind, seq, length of the payload
_CRC = struct.Struct("<I")  # of the frame and the payload
_LENGTH = struct.Struct("<I")  # of the JSON header
_PREFIX = _FRAME.size + _CRC.size


class Kind(IntEnum):
    """What a record holds."""

    HEADER = 1
    EVENT = 2
    ROW = 3
    TAGS = 4
    LOG = 5
    END = 6
    ACQUISITION_BEGIN = 7
    ACQUISITION_END = 8
    SNAPSHOT = 9
    TWIN = 10
    AUDIT = 11
    MONITOR = 12
    MEMO = 13
    DISCARD = 14


_KINDS = frozenset(Kind)


@dataclass(frozen=True)
class Record:
    """One record read back; `data_offset` is where `data` begins in the segment `path`."""

    kind: Kind
    seq: int
    header: dict[str, Any]
    data: memoryview
    data_offset: int
    path: Path


@dataclass(frozen=True)
class Damage:
    """A stretch of a segment that holds no readable record; `lost` records were there."""

    path: Path
    offset: int
    size: int
    lost: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.path}: {self.size} bytes at {self.offset}"
        return f"{place} are spoilt ({self.reason}), {self.lost} records lost"


@dataclass(frozen=True)
class JournalEnd:
    """Where and why reading stopped in the last segment, after how many records.

    reason: "" at a clean end, "torn" for an incomplete last record, else what is wrong there.
    damages: what was passed over before.
    """

    offset: int
    reason: str
    records: int = 0
    segment: int = 1
    damages: tuple[Damage, ...] = ()

    @property
    def corrupt(self) -> bool:
        """True when there was more than an unfinished last record that could not be read."""
        return bool(self.damages) or self.reason not in ("", "torn")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


_encoder = json.JSONEncoder(separators=(",", ":"), default=_plain, check_circular=False)


def to_json(value: Any) -> str:
    """JSON in plain ASCII; NumPy values as numbers and lists, anything else foreign as its text."""
    return _encoder.encode(value)


def clean(text: str) -> str:
    """Text that HDF5 can hold: its text ends at a NUL, and UTF-8 has no lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def frame(kind: Kind, seq: int, header: str, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """One record, as buffers to be written one after the other; large ones are not copied."""
    text = header.encode("ascii")
    begin = _LENGTH.pack(len(text)) + text
    head = _FRAME.pack(MAGIC, kind, seq, len(begin) + sum(map(len, buffers)))
    crc = zlib.crc32(begin, zlib.crc32(head))
    for buffer in buffers:
        crc = zlib.crc32(buffer, crc)
    return [b"".join((head, _CRC.pack(crc), begin)), *buffers]


def segment_path(path: Path, number: int) -> Path:
    """The file of segment `number`, counted from 1, of the journal `path`."""
    return path if number == 1 else path.with_name(f"{path.stem}.{number:04d}{path.suffix}")


def segments(path: Path) -> list[Path]:
    """The segments of the journal `path` that exist, in order; at least `path` itself."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d{{4,}}){re.escape(path.suffix)}")
    later = sorted(item for item in path.parent.iterdir() if pattern.fullmatch(item.name))
    return [path, *later]


class JournalReader:
    """Iterates over the readable records; then `end` says where and why it stopped, and what was spoilt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = JournalEnd(0, "")

    def __iter__(self) -> Iterator[Record]:
        files = segments(self.path)
        state = _Reading()
        for number, path in enumerate(files, start=1):
            with path.open("rb") as file:
                yield from _read_segment(file, path, state, last=number == len(files))
        self.end = JournalEnd(state.offset, state.reason, state.seq, len(files), tuple(state.damages))


def read_journal(path: Path) -> JournalReader:
    """The records of the journal at `path`, of a live run too: what is written at this moment is read."""
    return JournalReader(path)


def read_segment(path: Path) -> Iterator[Record]:
    """The records of one complete segment. Raises StoreError when one of them is spoilt."""
    with path.open("rb") as file:
        first = _read_record(file, path, 0, os.fstat(file.fileno()).st_size)
        state = _Reading(first.seq if isinstance(first, Record) else 0)
        yield from _read_segment(file, path, state, last=False)
    if state.damages:
        raise StoreError(f"{state.damages[0]}; `labctl recover {path.parent}` saves the rest")


@dataclass
class _Reading:
    seq: int = 0
    offset: int = 0
    reason: str = ""
    damages: list[Damage] = field(default_factory=list)

    def spoilt(self, path: Path, end: int, lost: int) -> None:
        """Note that nothing can be read from here to `end`."""
        self.damages.append(Damage(path, self.offset, end - self.offset, lost, self.reason))
        self.reason = ""


def _read_segment(file: BinaryIO, path: Path, state: _Reading, *, last: bool) -> Iterator[Record]:
    state.offset, state.reason = 0, ""
    while state.offset < (size := os.fstat(file.fileno()).st_size):
        record = _read_record(file, path, state.offset, size)
        if isinstance(record, str) or record.seq != state.seq:
            state.reason = record if isinstance(record, str) else f"record {record.seq} for {state.seq}"
            behind = _next_record(file, path, state, size)
            if behind is None:
                if not last:
                    state.spoilt(path, size, 0)
                return
            begin, record = behind
            state.spoilt(path, begin, record.seq - state.seq)
        yield record
        state.seq = record.seq + 1
        state.offset = record.data_offset + len(record.data)


def _next_record(file: BinaryIO, path: Path, state: _Reading, size: int) -> tuple[int, Record] | None:
    """Where the first readable record from `state.offset` on begins, and the record."""
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        begin = content.find(MAGIC, state.offset)
        while begin >= 0:
            found = _read_record(file, path, begin, size)
            if isinstance(found, Record) and found.seq >= state.seq:
                return begin, found
            begin = content.find(MAGIC, begin + 1)
    return None


def _read_record(file: BinaryIO, path: Path, offset: int, size: int) -> Record | str:
    """The record at `offset` of a segment of `size` bytes, or the reason why there is none."""
    if size - offset < _PREFIX:
        return "torn"
    file.seek(offset)
    head = file.read(_FRAME.size)
    magic, kind, seq, length = _FRAME.unpack(head)
    if magic == OLD_MAGIC:
        return "a record of labctl 0.1, which can recover it"
    if magic != MAGIC:
        return "no record begins here"
    if length > size - offset - _PREFIX:
        return "torn"
    (crc,) = _CRC.unpack(file.read(_CRC.size))
    payload = file.read(length)
    if zlib.crc32(payload, zlib.crc32(head)) != crc:
        return "wrong checksum"
    if kind not in _KINDS:
        return f"record of the unknown kind {kind}"
    text_end = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
    header = json.loads(payload[_LENGTH.size : text_end])
    return Record(Kind(kind), seq, header, memoryview(payload)[text_end:], offset + _PREFIX + text_end, path)
