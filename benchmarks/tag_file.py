"""A PTU file of HydraHarp T2 records, written as arrays: what peers read that read nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_WRAP = 1 << 25
_RECORD_TYPE = 0x01010204


def write_t2(path: Path, times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> None:
    """Write tags of 1 ps resolution, with an overflow record wherever the 25-bit counter wraps."""
    wraps = times_ps >> 25
    overflows = np.diff(wraps, prepend=0)
    # an overflow record (which can say how often) goes before each tag in whose way the counter wrapped
    place = np.arange(times_ps.size) + np.cumsum(overflows > 0)
    records = np.empty(times_ps.size + np.count_nonzero(overflows), "<u4")
    records[place] = (channels.astype(np.int64) << 25) | (times_ps & (_WRAP - 1))
    wrapped = overflows > 0
    records[place[wrapped] - 1] = 0xFE000000 | overflows[wrapped]
    path.write_bytes(_header(records.size) + records.tobytes())


def _header(n_records: int) -> bytes:
    whole, real, truth, nothing = 0x10000008, 0x20000008, 0x00000008, 0xFFFF0008
    tags = [
        ("Measurement_Mode", whole, 2),
        ("Measurement_SubMode", whole, 0),
        ("TTResultFormat_TTTRRecType", whole, _RECORD_TYPE),
        ("TTResultFormat_BitsPerRecord", whole, 32),
        ("HWSync_Divider", whole, 1),
        ("HW_InpChannels", whole, 2),
        ("HWInpChan_Enabled", truth, 1),
        ("Fast_Load_End", nothing, 0),
        ("MeasDesc_GlobalResolution", real, 1e-12),
        ("MeasDesc_Resolution", real, 1e-12),
        ("TTResult_SyncRate", whole, 0),
        ("TTResult_NumberOfRecords", whole, n_records),
        ("Header_End", nothing, 0),
    ]
    body = b"".join(
        struct.pack("<32siI", name.encode(), -1, kind) + struct.pack("<d" if kind == real else "<q", value)
        for name, kind, value in tags
    )
    return b"PQTTTR\0\0" + b"1.0.00\0\0" + body
