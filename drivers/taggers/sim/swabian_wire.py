"""Messages between the vendor-like tagger library and the simulated tagger.

One message is a length (4 bytes, little-endian, of what follows), one line of JSON, and the raw bytes of the
arrays that the line lists. Only numbers and text travel; a message can never run code.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_LENGTH = struct.Struct("<I")
# widest first, after a line padded to 8 bytes: every array is then aligned in the received buffer
_DTYPES = {"times": "<i8", "channels": "<i4", "missed": "<u2", "types": "<u1"}
_ALIGNMENT = 8
MAX_BYTES = 1 << 30


def pack(header: dict[str, Any], arrays: Arrays | None = None) -> bytes:
    """One message. arrays: any of times (int64), channels (int32), types (uint8), missed (uint16)."""
    given = arrays or {}
    bodies = {name: np.ascontiguousarray(given[name], _DTYPES[name]) for name in _DTYPES if name in given}
    listed = {**header, "arrays": {name: body.size for name, body in bodies.items()}} if bodies else header
    line = json.dumps(listed, separators=(",", ":")).encode()
    line += b" " * (-(_LENGTH.size + len(line) + 1) % _ALIGNMENT) + b"\n"
    size = len(line) + sum(body.nbytes for body in bodies.values())
    return b"".join((_LENGTH.pack(size), line, *(body.tobytes() for body in bodies.values())))


def message_length(buffer: bytes | bytearray) -> int | None:
    """Length of the first message in `buffer` with its prefix; None while the prefix is incomplete.

    Raises ValueError for an impossible length.
    """
    if len(buffer) < _LENGTH.size:
        return None
    size = _LENGTH.unpack_from(buffer)[0]
    if not 0 < size <= MAX_BYTES:
        raise ValueError(f"a message of {size} bytes is impossible")
    return _LENGTH.size + size


def unpack(message: bytes | bytearray) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of one whole message. Raises ValueError when it is malformed."""
    line_end = message.index(b"\n", _LENGTH.size)
    header = json.loads(message[_LENGTH.size : line_end])
    arrays: Arrays = {}
    offset = line_end + 1
    for name, count in header.pop("arrays", {}).items():
        arrays[name] = np.frombuffer(message, _DTYPES[name], count, offset)
        offset += arrays[name].nbytes
    if offset != len(message):
        raise ValueError(f"{len(message) - offset} bytes too many in a message")
    return header, arrays


def take_message(buffer: bytearray) -> bytes | None:
    """Cut the first complete message from `buffer`; None if there is none yet."""
    length = message_length(buffer)
    if length is None or len(buffer) < length:
        return None
    message = bytes(buffer[:length])
    del buffer[:length]
    return message
