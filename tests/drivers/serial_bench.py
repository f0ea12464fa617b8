"""A small bench for driver tests: a world to set by hand, its clock, and ways to plug in a simulator."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
import tty
from types import SimpleNamespace
from typing import Any

import numpy as np

from labctl.twin.device import Reply, SimDevice

PS = 1_000_000_000_000


class FakeWorld:
    """A world whose time and meter power are set by the test."""

    def __init__(self, seed: int = 1) -> None:
        self.now_ps = 0
        self.meter_w = 0.0
        self.seed = seed
        self.knobs = SimpleNamespace()

    def set(self, **changes: Any) -> None:
        vars(self.knobs).update(changes)

    def vis_power_at_meter_w(self) -> float:
        return self.meter_w

    def rng(self, source: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}/{source}".encode()).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class FakeClock:
    """The bench clock of a FakeWorld; sleeping moves the world."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world

    def now(self) -> float:
        return self.world.now_ps / PS

    def sleep(self, seconds: float) -> None:
        self.world.now_ps += max(0, round(seconds * PS))


def deliver(device: SimDevice, replies: list[Reply]) -> bytes:
    """The bytes of `replies`; the world moves to the due time of late ones, as the host does."""
    for reply in replies:
        if reply.due_ps is not None:
            device.world.now_ps = max(device.world.now_ps, reply.due_ps)  # type: ignore[misc]
            device.released(reply)
    return b"".join(reply.data for reply in replies)


class SimTransport:
    """A transport that ends in a simulator, without a wire; hands out at most `piece` bytes per read."""

    def __init__(self, device: SimDevice, piece: int = 65536) -> None:
        self.device = device
        self.piece = piece
        self.incoming = b""
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.incoming += deliver(self.device, self.device.feed(data))

    def read(self, timeout_s: float) -> bytes:
        data, self.incoming = self.incoming[: self.piece], self.incoming[self.piece :]
        return data

    def close(self) -> None:
        pass


class ScriptedTransport:
    """A transport that expects the commands of `script` in order and gives the answers beside them."""

    def __init__(self, script: list[tuple[bytes, bytes]], piece: int = 65536) -> None:
        self.script = list(script)
        self.piece = piece
        self.incoming = b""
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if not self.script or self.script[0][0] != data:
            raise AssertionError(f"unexpected {data!r}, script goes on with {self.script[:1]}")
        self.incoming += self.script.pop(0)[1]

    def read(self, timeout_s: float) -> bytes:
        data, self.incoming = self.incoming[: self.piece], self.incoming[self.piece :]
        return data

    def close(self) -> None:
        pass


class WireHost:
    """Serves a simulator on a pseudo-terminal (`wire="serial"`) or a TCP port (`wire="visa"`)."""

    def __init__(self, device: SimDevice, wire: str) -> None:
        self.device = device
        self._listener: socket.socket | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._open = [self._wake_read, self._wake_write]
        if wire == "serial":
            master, slave = os.openpty()  # the slave side stays open, or reads fail when a client leaves
            tty.setraw(slave)
            self._open += [master, slave]
            self._stream = master
            self.address = f"serial://{os.ttyname(slave)}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self._stream = -1
            self.address = f"visa://TCPIP0::127.0.0.1::{self._listener.getsockname()[1]}::SOCKET"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hang_up(self) -> None:
        """Cut the wire, as a pulled cable does."""
        os.write(self._wake_write, b"x")
        self._thread.join()
        if self._listener:
            self._listener.close()
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def close(self) -> None:
        """End the host. Idempotent."""
        if self._open:
            self.hang_up()

    def _serve(self) -> None:
        if self._listener:
            if self._wake_read in select.select([self._listener.fileno(), self._wake_read], [], [])[0]:
                return
            self._stream = self._listener.accept()[0].detach()
            self._open.append(self._stream)
        while self._wake_read not in (ready := select.select([self._stream, self._wake_read], [], [])[0]):
            data = os.read(ready[0], 4096)
            if not data:
                return
            os.write(self._stream, deliver(self.device, self.device.feed(data)))
