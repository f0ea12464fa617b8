"""Synthetic PTU files for tests: the encoder for every record type, written from the record sheets.

Independent of the decoder under test: plain Python integers, one record at a time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PICOHARP, HYDRAHARP_V1 = 0x00010003, 0x00010004
FAMILIES = {
    "PicoHarp": PICOHARP,
    "HydraHarpV1": HYDRAHARP_V1,
    "HydraHarpV2": 0x01010004,
    "TimeHarp260N": 0x00010005,
    "TimeHarp260P": 0x00010006,
    "MultiHarp": 0x00010007,
}
T2, T3 = 0x200, 0x300
SYNC, MARKER = 999, 1000

INT, BOOL, FLOAT, ANSI, EMPTY = 0x10000008, 0x00000008, 0x20000008, 0x4001FFFF, 0xFFFF0008


@dataclass(frozen=True)
class Event:
    """One event: channel as labctl numbers it, clock (ticks or syncs since start), dtime (T3)."""

    channel: int
    clock: int
    dtime: int = 0


def encode(events: list[Event], record_type: int, merge_overflows: bool = True) -> list[int]:
    """Records (as ints) for time-ordered events; overflow records are put in where the counter wraps."""
    family, is_t2 = record_type & ~0xF00, record_type & 0xF00 == T2
    wrap = _wrap(family, is_t2)
    records: list[int] = []
    base = 0
    for event in events:
        wraps = (event.clock - base) // wrap
        records += _overflows(family, is_t2, wraps, merge_overflows)
        base += wraps * wrap
        records.append(_record(family, is_t2, event, event.clock - base))
    return records


def _wrap(family: int, is_t2: bool) -> int:
    if family == PICOHARP:
        return 210_698_240 if is_t2 else 65_536
    if family == HYDRAHARP_V1 and is_t2:
        return 33_552_000
    return 33_554_432 if is_t2 else 1024


def _overflows(family: int, is_t2: bool, wraps: int, merge: bool) -> list[int]:
    if family == PICOHARP:
        return [0xF0000000] * wraps
    if family == HYDRAHARP_V1:
        return [0xFE000000] * wraps
    if not merge:
        return [0xFE000000 | 1] * wraps
    largest = 0x1FFFFFF if is_t2 else 0x3FF
    counts = [largest] * (wraps // largest) + ([wraps % largest] if wraps % largest else [])
    return [0xFE000000 | count for count in counts]


def _record(family: int, is_t2: bool, event: Event, value: int) -> int:
    marker = event.channel - MARKER if event.channel > MARKER else 0
    if family == PICOHARP and is_t2:
        return 0xF << 28 | (value & ~0xF) | marker if marker else event.channel << 28 | value
    if family == PICOHARP:
        return 0xF << 28 | marker << 16 | value if marker else event.channel << 28 | event.dtime << 16 | value
    special = 1 << 31 if marker or event.channel == SYNC else 0
    channel = marker if special else event.channel
    return special | channel << 25 | event.dtime << 10 | value


def header_tag(ident: str, code: int, value: Any, index: int = -1) -> bytes:
    head = struct.pack("<32siI", ident.encode(), index, code)
    if code == ANSI:
        text = value.encode() + b"\0"
        text += b"\0" * (-len(text) % 8)
        return head + struct.pack("<q", len(text)) + text
    return head + struct.pack("<d" if code == FLOAT else "<q", value)


def write_ptu(
    path: Path,
    records: list[int] | np.ndarray,
    record_type: int,
    *,
    global_resolution_s: float = 1e-12,
    resolution_s: float = 16e-12,
    n_records: int | None = None,
    **header: Any,
) -> Path:
    """Write a PTU file. n_records: what the header states (default: the truth); header: further int tags."""
    tags = [
        header_tag("File_Comment", ANSI, "synthetic"),
        header_tag("Measurement_Mode", INT, 2 if record_type & 0xF00 == T2 else 3),
        header_tag("TTResultFormat_TTTRRecType", INT, record_type),
        header_tag("TTResultFormat_BitsPerRecord", INT, 32),
        header_tag("HWInpChan_Enabled", BOOL, 1, 0),
        header_tag("Fast_Load_End", EMPTY, 0),
        header_tag("MeasDesc_GlobalResolution", FLOAT, global_resolution_s),
        header_tag("MeasDesc_Resolution", FLOAT, resolution_s),
        *(header_tag(ident, INT, value) for ident, value in header.items()),
        header_tag("TTResult_NumberOfRecords", INT, len(records) if n_records is None else n_records),
        header_tag("Header_End", EMPTY, 0),
    ]
    path.write_bytes(b"PQTTTR\0\0" + b"1.0.00\0\0" + b"".join(tags) + np.array(records, "<u4").tobytes())
    return path
