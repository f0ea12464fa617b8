"""A simulated instrument as the host sees it: bytes in, replies out, a world to act on.

A simulator has no thread, no clock and no socket of its own. It reads the time from the world whenever
it is spoken to and computes from it what its state must be by now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.random import Generator

if TYPE_CHECKING:
    from labctl.twin.knobs import Knobs
    from labctl.twin.tags import TagBuffer


@dataclass(frozen=True)
class Reply:
    """Bytes for the host, sent at world time `due_ps` (at once when None)."""

    data: bytes
    due_ps: int | None = None


class WorldPort(Protocol):
    """What a simulated instrument may use of the world."""

    @property
    def now_ps(self) -> int:
        """World time."""
        ...

    @property
    def knobs(self) -> Knobs:
        """The knobs as they are set now."""
        ...

    @property
    def tags(self) -> TagBuffer:
        """The tags at the inputs of the time tagger."""
        ...

    def set(self, **changes: Any) -> None:
        """Change knobs from this instant on; equal values change nothing."""
        ...

    def vis_power_at_meter_w(self) -> float:
        """Mean visible power at the pick-off meter, in W."""
        ...

    def rng(self, source: str, *key: int) -> Generator:
        """A random generator of this source's own."""
        ...


class SimDevice:
    """One simulated instrument, seen from the far end of its cable.

    All methods are called with the world's lock held.
    """

    def __init__(self, world: WorldPort, name: str, **options: Any) -> None:
        self.world = world
        self.name = name
        self.options = options

    def connected(self) -> list[Reply]:
        """A client has connected; returns the banner."""
        return []

    def feed(self, data: bytes) -> list[Reply]:
        """Bytes from the client in any slicing; returns replies in order."""
        raise NotImplementedError

    def released(self, reply: Reply) -> None:
        """The world has come to the due time of a late reply, exactly; called before it is sent."""

    def disconnected(self) -> None:
        """The client is gone."""

    def state(self) -> dict[str, Any]:
        """The instrument's inner state, as plain values."""
        return {}

    def trip(self, fault: str, value: Any = None) -> None:
        """Provoke one of the instrument's own faults; ValueError when it has no such fault."""
        raise ValueError(f"{self.name} has no fault '{fault}'")
