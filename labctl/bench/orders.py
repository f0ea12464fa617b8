"""What the guardian is told: lines of JSON on its standard input, with the locks of the instruments."""

from __future__ import annotations

import json
import queue
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_BYTES = 65536
_MOST_DESCRIPTORS = 250


@dataclass(frozen=True)
class Order:
    """One order, with the descriptors that came with it."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)


class Orders:
    """The guardian's end of the channel."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(self, events: queue.SimpleQueue[Order]) -> None:
        """Put every order into the queue until the channel ends, and then "end of channel"."""
        buffer = bytearray()
        received: list[int] = []
        try:
            for data, descriptors in self._pieces():
                buffer += data
                received += descriptors
                while (end := buffer.find(b"\n")) >= 0:
                    events.put(_order(bytes(buffer[:end]), received))
                    del buffer[: end + 1]
        finally:
            events.put(Order("end of channel"))

    def _pieces(self) -> Iterator[tuple[bytes, list[int]]]:
        if sys.platform == "win32":
            yield from ((line, []) for line in sys.stdin.buffer)
            return
        channel = socket.socket(fileno=self._descriptor)
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(channel, _BYTES, _MOST_DESCRIPTORS)
            except ConnectionError:
                return
            if not data:
                return
            yield data, list(descriptors)


def _order(line: bytes, received: list[int]) -> Order:
    """The order in a line, with as many of the received descriptors as it has locks."""
    message = json.loads(line)
    wanted = len(message.get("locks", ()))
    own, received[:] = received[:wanted], received[wanted:]
    return Order(message.pop("order"), message, own)
