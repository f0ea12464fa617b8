"""A simulated instrument, seen from the other end of the cable.

A device gets the bytes that its client sends, in any slicing, and answers with replies; a reply may be
due later in world time (a move that answers when it is over). It reads and changes the shared world
through `WorldPort` and computes its own state lazily from `now_ps`; it never waits and knows no transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Reply:
    """Bytes to the client; `due_ps` is the world time of sending, None: at once."""

    data: bytes
    due_ps: int | None = None


class WorldPort(Protocol):
    """What a simulated instrument may use of the world."""

    @property
    def now_ps(self) -> int: ...

    @property
    def knobs(self) -> Any: ...

    def set(self, **changes: Any) -> None: ...

    def vis_power_at_meter_w(self) -> float: ...

    def rng(self, source: str) -> np.random.Generator: ...


class SimDevice:
    """One simulated instrument; all methods are called with the world lock held."""

    def __init__(self, world: WorldPort, name: str, **options: Any) -> None:
        self.world = world
        self.name = name
        self.options = options

    def connected(self) -> list[Reply]:
        """A client came; the banner, if there is one."""
        return []

    def feed(self, data: bytes) -> list[Reply]:
        """Bytes from the client in any slicing; the device keeps its own input buffer."""
        raise NotImplementedError

    def disconnected(self) -> None:
        """The client left."""

    def state(self) -> dict[str, Any]:
        """What the truth shows of this device."""
        return {}

    def trip(self, fault: str, value: Any = None) -> None:
        """A fault of the device itself (interlock, stall, ...)."""
        raise ValueError(f"{self.name}: this device has no fault {fault!r}")
