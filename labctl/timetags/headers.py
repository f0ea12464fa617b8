"""Headers of tag files: from bytes to a flat dictionary, the record type and the place of the first record.

Formats: PicoQuant unified tags (PTU) and the legacy HydraHarp container 2.0 (HT2, HT3). Sources: PicoQuant
"Unified TTTR file format" and "HydraHarp 400, file formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from labctl.errors import LabctlError
from labctl.timetags.records import RECORD_TYPES, RecordType

PTU_MAGIC = b"PQTTTR\0\0"
HT_MAGIC = b"HydraHarp\0"
SUPPORTED = "PTU (PicoQuant unified, T2 and T3) and HydraHarp HT2/HT3 version 2.0"

_KNOWN_FOREIGN = {
    b"PQHISTO": "a PicoQuant PHU histogram, not a tag file",
    b"PicoHarp": "a legacy PicoHarp PT2/PT3 file",
    b"TimeHarp": "a legacy TimeHarp T3R file",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip archive",
}

_EMPTY, _BOOL, _INT, _BITS, _COLOR = 0xFFFF0008, 0x00000008, 0x10000008, 0x11000008, 0x12000008
_FLOAT, _DATE = 0x20000008, 0x21000008
_FLOATS, _ANSI, _WIDE, _BLOB = 0x2001FFFF, 0x4001FFFF, 0x4002FFFF, 0xFFFFFFFF


class TagFileError(LabctlError):
    """A tag file that cannot be used; the message names the file, what was found and where."""


@dataclass(frozen=True)
class Header:
    """What a reader must know. resolution_ps: T2 tick or T3 dtime unit; sync_period_ps: T3 only, else None.

    n_records: as the header states it (0 where the measurement was not finished properly).
    """

    values: dict[str, Any]
    kind: RecordType
    resolution_ps: float
    sync_period_ps: float | None
    n_records: int
    data_offset: int


def parse_header(name: str, data: bytes) -> Header:
    """Parse the start of a tag file. TagFileError when it is foreign, damaged or of an unknown type."""
    if data.startswith(PTU_MAGIC):
        return _ptu(name, data)
    if data.startswith(HT_MAGIC):
        return _hydraharp(name, data)
    raise TagFileError(f"{name}: {_looks_like(data)}; supported are {SUPPORTED}")


def _looks_like(data: bytes) -> str:
    if not data:
        return "the file is empty"
    for magic, what in _KNOWN_FOREIGN.items():
        if data.startswith(magic):
            return f"this looks like {what}"
    return f"unknown file type, it begins with {data[:8]!r}"


def _ptu(name: str, data: bytes) -> Header:
    values, offset = _ptu_tags(name, data)
    code = _required(name, values, "TTResultFormat_TTTRRecType") & 0xFFFFFFFF
    kind = RECORD_TYPES.get(code)
    if kind is None:
        known = ", ".join(f"0x{known:08X}" for known in sorted(RECORD_TYPES))
        raise TagFileError(f"{name}: unknown RecType 0x{code:08X}; known are {known}")
    unit_ps = _required(name, values, "MeasDesc_GlobalResolution") * 1e12
    n_records = int(values.get("TTResult_NumberOfRecords", 0))
    if kind.mode == "T2":
        return Header(
            values, kind, _positive(name, "MeasDesc_GlobalResolution", unit_ps), None, n_records, offset
        )
    dtime_ps = _positive(name, "MeasDesc_Resolution", _required(name, values, "MeasDesc_Resolution") * 1e12)
    period_ps = _positive(name, "MeasDesc_GlobalResolution", unit_ps)
    return Header(values, kind, dtime_ps, period_ps, n_records, offset)


def _ptu_tags(name: str, data: bytes) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {"version": data[8:16].rstrip(b"\0").decode("ascii", "replace")}
    offset = 16
    while offset + 48 <= len(data):
        raw_ident, index, code, raw = struct.unpack_from("<32siI8s", data, offset)
        ident = raw_ident.split(b"\0")[0].decode("ascii", "replace")
        offset += 48
        if ident == "Header_End":
            return values, offset
        size = struct.unpack("<q", raw)[0] if code in (_FLOATS, _ANSI, _WIDE, _BLOB) else 0
        if size < 0 or offset + size > len(data):
            break
        value = _ptu_value(name, ident, code, raw, data[offset : offset + size])
        offset += size
        values[ident if index < 0 else f"{ident}[{index}]"] = value
    raise TagFileError(f"{name}: truncated header, the file ends at byte {len(data)} before Header_End")


def _ptu_value(name: str, ident: str, code: int, raw: bytes, payload: bytes) -> Any:
    if code in (_INT, _BITS, _COLOR):
        return struct.unpack("<q", raw)[0]
    if code == _BOOL:
        return struct.unpack("<q", raw)[0] != 0
    if code in (_FLOAT, _DATE):
        return struct.unpack("<d", raw)[0]
    if code == _EMPTY:
        return None
    if code == _ANSI:
        return payload.split(b"\0")[0].decode("cp1252", "replace")
    if code == _WIDE:
        return payload.decode("utf-16-le", "replace").split("\0")[0]
    if code == _FLOATS:
        return list(struct.unpack(f"<{len(payload) // 8}d", payload[: len(payload) // 8 * 8]))
    if code == _BLOB:
        return payload
    raise TagFileError(f"{name}: header tag {ident} has unknown type 0x{code:08X}")


def _required(name: str, values: dict[str, Any], key: str) -> Any:
    if key not in values:
        raise TagFileError(f"{name}: the header has no {key}; a TTTR file must have it")
    return values[key]


def _positive(name: str, key: str, value: float) -> float:
    """A resolution in ps, cleared of the rounding of its value in seconds."""
    if not value > 0:
        raise TagFileError(f"{name}: the header says {key} = {value}; it must be positive")
    whole = round(value)
    return float(whole) if whole and abs(value / whole - 1.0) < 1e-12 else value


_HT_COMMON = (
    ("BitsPerRecord", "<i", 332),
    ("MeasurementMode", "<i", 340),
    ("Binning", "<i", 348),
    ("Resolution", "<d", 352),
    ("Offset", "<i", 360),
    ("AcquisitionTime", "<i", 364),
    ("HardwareSerial", "<i", 560),
    ("BaseResolution", "<d", 648),
    ("InputsEnabled", "<q", 656),
    ("InputChannelsPresent", "<i", 664),
    ("MarkerSettings", "<i", 676),
    ("SyncDivider", "<i", 680),
    ("SyncOffset", "<i", 692),
)
_HT_CHANNELS = 696  # per channel: four settings, later one rate; all int32


def _hydraharp(name: str, data: bytes) -> Header:
    version = data[16:22].split(b"\0")[0].decode("ascii", "replace")
    if version != "2.0":
        raise TagFileError(
            f"{name}: HydraHarp file format {version} is not supported; supported are {SUPPORTED}"
        )
    values: dict[str, Any] = {"Ident": "HydraHarp", "FormatVersion": version}
    if len(data) < _HT_CHANNELS:
        raise TagFileError(f"{name}: truncated header, the file has only {len(data)} bytes")
    values.update({key: struct.unpack_from(form, data, offset)[0] for key, form, offset in _HT_COMMON})
    n_channels = values["InputChannelsPresent"]
    rates = _HT_CHANNELS + 16 * n_channels
    tail = rates + 4 * n_channels
    if not 0 <= n_channels <= 64 or len(data) < tail + 24:
        raise TagFileError(f"{name}: truncated or damaged header ({n_channels} channels, {len(data)} bytes)")
    values.update(
        {f"InputRate[{c}]": struct.unpack_from("<i", data, rates + 4 * c)[0] for c in range(n_channels)}
    )
    numbers = struct.unpack_from("<4iq", data, tail)
    keys = ("SyncRate", "StopAfter", "StopReason", "ImgHdrSize", "NumRecords")
    values.update(zip(keys, numbers, strict=True))
    offset = tail + 24 + 4 * values["ImgHdrSize"]
    if values["MeasurementMode"] == 2:
        resolution = _positive(name, "BaseResolution", values["BaseResolution"])
        return Header(values, RECORD_TYPES[0x01010204], resolution, None, values["NumRecords"], offset)
    if values["MeasurementMode"] != 3:
        raise TagFileError(
            f"{name}: measurement mode {values['MeasurementMode']} is neither T2 (2) nor T3 (3)"
        )
    if values["SyncRate"] <= 0:
        raise TagFileError(f"{name}: the header says SyncRate = {values['SyncRate']} Hz; T3 times need it")
    resolution = _positive(name, "Resolution", values["Resolution"])
    period_ps = 1e12 / values["SyncRate"]
    return Header(values, RECORD_TYPES[0x01010304], resolution, period_ps, values["NumRecords"], offset)
