"""TTTR records: 32-bit words of PicoQuant instruments, decoded from one table of record types.

Two layouts exist (PicoHarp 300 and HydraHarp); devices differ in the wrap of their time counter and in
whether an overflow record carries a count. Sources: PicoQuant "Unified TTTR file format" and the
HydraHarp 400, PicoHarp 300, TimeHarp 260 and MultiHarp 150 manuals, TTTR record formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

SYNC_CHANNEL = 999
"""Channel number given to T2 sync records."""
MARKER_CHANNEL = 1000
"""A marker record with marker bits m gets channel number MARKER_CHANNEL + m."""
UNKNOWN_CHANNEL = 2000
"""A special record of unknown meaning with channel field c gets UNKNOWN_CHANNEL + c; it is never a tag."""


@dataclass(frozen=True)
class RecordType:
    """How to decode one kind of record.

    wrap: ticks (T2) or syncs (T3) added by one overflow. counted: the overflow record says how many
    (0 means 1).
    """

    device: str
    mode: str
    layout: str
    wrap: int
    counted: bool


def _types(
    code: int, device: str, layout: str, t2_wrap: int, t3_wrap: int, counted: bool
) -> dict[int, RecordType]:
    return {
        code | 0x200: RecordType(device, "T2", layout, t2_wrap, counted),
        code | 0x300: RecordType(device, "T3", layout, t3_wrap, counted),
    }


RECORD_TYPES: dict[int, RecordType] = {
    **_types(0x00010003, "PicoHarp 300", "picoharp", 210_698_240, 1 << 16, False),
    **_types(0x00010004, "HydraHarp V1", "hydraharp", 33_552_000, 1 << 10, False),
    **_types(0x01010004, "HydraHarp V2", "hydraharp", 1 << 25, 1 << 10, True),
    **_types(0x00010005, "TimeHarp 260 N", "hydraharp", 1 << 25, 1 << 10, True),
    **_types(0x00010006, "TimeHarp 260 P", "hydraharp", 1 << 25, 1 << 10, True),
    **_types(0x00010007, "MultiHarp or generic", "hydraharp", 1 << 25, 1 << 10, True),
}


@dataclass(frozen=True)
class Tags:
    """Decoded records without overflows.

    channels: int32[n]. clock: int64[n], time in ticks of the resolution (T2) or number of the sync (T3).
    dtimes: int32[n], ticks since that sync (T3; 0 for markers and in T2).
    """

    channels: NDArray[np.int32]
    clock: NDArray[np.int64]
    dtimes: NDArray[np.int32]


class Decoder:
    """Decodes consecutive slices of one record stream; remembers the overflow between them."""

    def __init__(self, kind: RecordType) -> None:
        self.kind = kind
        self.overflow = 0
        self._latest = 0

    def decode(self, records: NDArray[np.uint32]) -> Tags:
        """Decode the next slice (uint32[n]); unknown special records come as UNKNOWN_CHANNEL + c."""
        n = records.size
        # one spare place: the kernels write a tag before they know whether it is one
        channels, clock = np.empty(n + 1, np.int32), np.empty(n + 1, np.int64)
        dtimes = np.empty(n + 1 if self.kind.mode == "T3" else 0, np.int32)
        kernel = _KERNELS[self.kind.layout, self.kind.mode]
        kept, self.overflow = kernel(
            records, self.overflow, self.kind.wrap, self.kind.counted, channels, clock, dtimes
        )
        if self.kind.mode == "T3":
            return Tags(channels[:kept], clock[:kept], dtimes[:kept])
        if self.kind.layout == "picoharp":
            self._settle_markers(channels[:kept], clock[:kept])
        return Tags(channels[:kept], clock[:kept], np.broadcast_to(np.int32(0), kept))

    def _settle_markers(self, channels: NDArray[np.int32], clock: NDArray[np.int64]) -> None:
        """Move PicoHarp T2 markers, whose 4 lowest time bits are lost, up to the tag before them."""
        latest = np.maximum.accumulate(np.concatenate([[self._latest], clock]))
        marker = (channels > MARKER_CHANNEL) & (latest[:-1] - clock < 16)
        clock[marker] = np.maximum(clock, latest[:-1])[marker]
        self._latest = int(latest[-1])


def tag_records(records: NDArray[np.uint32], kind: RecordType) -> NDArray[np.intp]:
    """Positions of the records that are not overflows, in the order in which `Decoder` returns their tags."""
    if kind.layout == "hydraharp":
        return np.flatnonzero(records >> 25 != 0x7F)
    marker = records & 0xF if kind.mode == "T2" else records >> 16 & 0xF
    return np.flatnonzero((records >> 28 != 0xF) | (marker != 0))


@njit(cache=True, nogil=True)
def _t2_hydraharp(
    records: NDArray[np.uint32],
    overflow: int,
    wrap: int,
    counted: bool,
    channels: NDArray[np.int32],
    clock: NDArray[np.int64],
    dtimes: NDArray[np.int32],
) -> tuple[int, int]:
    # no branches: overflows come at random between photons, and a mispredicted branch costs more than a write
    kept: Any = np.uint64(0)
    n_special = 0
    for i in range(records.size):
        record: Any = np.int64(records[i])
        field, value = record >> 25, record & 0x1FFFFFF
        is_overflow: Any = np.int64(field == 127)
        clock[kept] = overflow + value
        channels[kept] = field
        kept += np.uint64(1 - is_overflow)
        overflow += wrap * (max(value, 1) if counted else 1) * is_overflow
        n_special += (field >= 64) - is_overflow
    if n_special:
        for k in range(kept):
            if channels[k] >= 64:
                channels[k] = _special_channel(channels[k] - 64, True)
    return kept, overflow


@njit(cache=True, nogil=True)
def _t3_hydraharp(
    records: NDArray[np.uint32],
    overflow: int,
    wrap: int,
    counted: bool,
    channels: NDArray[np.int32],
    clock: NDArray[np.int64],
    dtimes: NDArray[np.int32],
) -> tuple[int, int]:
    kept: Any = np.uint64(0)
    n_special = 0
    for i in range(records.size):
        record: Any = np.int64(records[i])
        field, nsync = record >> 25, record & 0x3FF
        is_overflow: Any = np.int64(field == 127)
        clock[kept] = overflow + nsync
        channels[kept] = field
        dtimes[kept] = record >> 10 & 0x7FFF
        kept += np.uint64(1 - is_overflow)
        overflow += wrap * (max(nsync, 1) if counted else 1) * is_overflow
        n_special += (field >= 64) - is_overflow
    if n_special:
        for k in range(kept):
            if channels[k] >= 64:
                channels[k] = _special_channel(channels[k] - 64, False)
                dtimes[k] = 0
    return kept, overflow


@njit(cache=True, nogil=True)
def _special_channel(field: int, sync_is_zero: bool) -> int:
    if field == 0 and sync_is_zero:
        return SYNC_CHANNEL
    if 1 <= field <= 15:
        return MARKER_CHANNEL + field
    return UNKNOWN_CHANNEL + field


@njit(cache=True, nogil=True)
def _t2_picoharp(
    records: NDArray[np.uint32],
    overflow: int,
    wrap: int,
    counted: bool,
    channels: NDArray[np.int32],
    clock: NDArray[np.int64],
    dtimes: NDArray[np.int32],
) -> tuple[int, int]:
    kept = 0
    for i in range(records.size):
        record: Any = np.int64(records[i])
        field, value = record >> 28, record & 0xFFFFFFF
        marker = record & 0xF
        if field == 15 and marker == 0:
            overflow += wrap
            continue
        # the marker bits replace the lowest time bits of a marker record
        clock[kept] = overflow + (value - marker if field == 15 else value)
        channels[kept] = MARKER_CHANNEL + marker if field == 15 else field
        kept += 1
    return kept, overflow


@njit(cache=True, nogil=True)
def _t3_picoharp(
    records: NDArray[np.uint32],
    overflow: int,
    wrap: int,
    counted: bool,
    channels: NDArray[np.int32],
    clock: NDArray[np.int64],
    dtimes: NDArray[np.int32],
) -> tuple[int, int]:
    kept = 0
    for i in range(records.size):
        record: Any = np.int64(records[i])
        field, dtime = record >> 28, record >> 16 & 0xFFF
        if field == 15 and dtime & 0xF == 0:
            overflow += wrap
            continue
        clock[kept] = overflow + (record & 0xFFFF)
        channels[kept] = MARKER_CHANNEL + (dtime & 0xF) if field == 15 else field
        dtimes[kept] = 0 if field == 15 else dtime
        kept += 1
    return kept, overflow


_KERNELS = {
    ("hydraharp", "T2"): _t2_hydraharp,
    ("hydraharp", "T3"): _t3_hydraharp,
    ("picoharp", "T2"): _t2_picoharp,
    ("picoharp", "T3"): _t3_picoharp,
}
