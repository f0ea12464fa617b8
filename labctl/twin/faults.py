"""Scripted faults of the cable between a client and a simulated instrument.

A fault waits for a command that matches its pattern and then strikes a stated number of times. Some spoil
the answer on the wire (drop, delay, truncate, garbage, split, duplicate), some happen to the line or to the
device as the command comes in (unsolicited, disconnect, busy, device). The pattern is looked for in what was
received since the last answer; one fault strikes per write of the client, and spoils the first answer to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ANSWER_KINDS = ("drop", "delay", "truncate", "garbage", "split", "duplicate")
"""What happens to an answer on its way to the client."""
LINE_KINDS = ("unsolicited", "disconnect", "busy", "device")
"""What happens when the command arrives."""
PROMPT_KINDS = ("unsolicited", "disconnect", "device")
"""Line faults that strike at once when no pattern is given."""
KINDS = ANSWER_KINDS + LINE_KINDS

SPLIT_PAUSE_S = 0.002
"""Wall time between the pieces of a split answer; without it the kernel would join them again."""


class FaultError(ValueError):
    """A fault was described wrongly."""


@dataclass
class Fault:
    """One armed fault; `left` counts how often it will still strike.

    `value` by kind: delay s of wall time; truncate and split a number of bytes; garbage, unsolicited and busy
    the text to send ("hex:00ff" for bytes); device the name of the fault, or {"fault": name, "value": x}.
    """

    device: str
    kind: str
    pattern: re.Pattern[str]
    left: int
    value: Any = None


def as_bytes(value: Any) -> bytes:
    """Text of a fault as bytes: latin-1, or hexadecimal after "hex:". Raises FaultError."""
    if not isinstance(value, str):
        raise FaultError(f"this fault needs a text to send, not {value!r}")
    if not value.startswith("hex:"):
        return value.encode("latin-1")
    try:
        return bytes.fromhex(value[4:])
    except ValueError:
        raise FaultError(f"{value!r} is not hexadecimal") from None


def trip_arguments(value: Any) -> tuple[str, Any]:
    """Name and value of a device's own fault. Raises FaultError."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict) and isinstance(value.get("fault"), str):
        return value["fault"], value.get("value")
    raise FaultError(f'a device fault needs its name or {{"fault": name, "value": x}}, not {value!r}')


def spoil(fault: Fault | None, data: bytes) -> list[tuple[float, bytes]]:
    """What goes on the wire instead of `data`: pieces, each with the wall time in s to wait before it."""
    if fault is None:
        return [(0.0, data)]
    return _SPOILERS[fault.kind](fault.value, data)


def _split(value: Any, data: bytes) -> list[tuple[float, bytes]]:
    pieces = [data[i : i + int(value)] for i in range(0, len(data), int(value))]
    return [(SPLIT_PAUSE_S if i else 0.0, piece) for i, piece in enumerate(pieces)]


_SPOILERS: dict[str, Callable[[Any, bytes], list[tuple[float, bytes]]]] = {
    "drop": lambda value, data: [],
    "delay": lambda value, data: [(float(value), data)],
    "truncate": lambda value, data: [(0.0, data[: int(value)])],
    "garbage": lambda value, data: [(0.0, as_bytes(value))],
    "split": _split,
    "duplicate": lambda value, data: [(0.0, data + data)],
}


class FaultBook:
    """The armed faults of all devices; use with the world lock held."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(self, device: str, kind: str, match: str = "", count: int = 1, value: Any = None) -> None:
        """Let a fault strike the next `count` writes to `device` that match. Raises FaultError."""
        check(kind, value)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise FaultError(f"a fault strikes a whole number of times, at least once, not {count!r}")
        try:
            pattern = re.compile(match, re.DOTALL)
        except (re.error, TypeError) as error:
            raise FaultError(f"the pattern {match!r} is not a regular expression: {error}") from None
        self._armed.append(Fault(device, kind, pattern, count, value))

    def clear(self) -> None:
        """Forget all faults."""
        self._armed.clear()

    def strike(self, device: str, heard: bytes) -> Fault | None:
        """The first armed fault of `device` that matches what it heard, used up by one."""
        if not self._armed:
            return None
        text = heard.decode("latin-1")
        for fault in self._armed:
            if fault.device == device and fault.pattern.search(text):
                self._use(fault)
                return fault
        return None

    def _use(self, fault: Fault) -> None:
        fault.left -= 1
        if fault.left == 0:
            self._armed.remove(fault)


def check(kind: str, value: Any) -> None:
    """Raise FaultError, saying what is wrong, if there is no such fault or it cannot have this value."""
    if kind not in KINDS:
        raise FaultError(f"there is no fault {kind!r}; known are {', '.join(KINDS)}")
    if kind in ("garbage", "unsolicited", "busy"):
        as_bytes(value)
    elif kind == "device":
        trip_arguments(value)
    elif kind in ("delay", "truncate", "split"):
        _check_number(kind, value)


def _check_number(kind: str, value: Any) -> None:
    least = 1 if kind == "split" else 0
    allowed = (int, float) if kind == "delay" else (int,)
    if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value < float("inf"):
        unit = "s" if kind == "delay" else "bytes"
        raise FaultError(f"the fault {kind} needs a number of {unit} of at least {least}, not {value!r}")
