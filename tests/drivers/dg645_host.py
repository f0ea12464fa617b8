"""A world that only remembers, and a TCP host that puts one simulator on a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import SimpleNamespace
from typing import Any

from labctl.twin.device import SimDevice


class FakeWorld:
    """Knobs that can be set, and a time that the test moves."""

    def __init__(self) -> None:
        self.now_ps = 0
        self.knobs = SimpleNamespace(diode_train=None, diode_gate_v=0.0, mir_gate_v=0.0)

    def set(self, **changes: Any) -> None:
        vars(self.knobs).update(changes)

    def vis_power_at_meter_w(self) -> float:
        return 0.0

    def rng(self, source: str) -> Any:
        raise AssertionError(f"{source}: nothing random here")


class TcpHost:
    """Serves `device` to one client after the other.

    cut: pieces in which replies leave (0: whole). muted: replies are kept in `kept` instead of sent.
    """

    def __init__(self, device: SimDevice, cut: int = 0) -> None:
        self.device = device
        self.cut = cut
        self.muted = threading.Event()
        self.kept: list[bytes] = []
        self.kept_one = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.client, _ = self._listener.accept()
                self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.client, contextlib.suppress(ConnectionError):
                    while data := self.client.recv(65536):
                        for reply in self.device.feed(data):
                            self._answer(reply.data)
                self.device.disconnected()

    def _answer(self, data: bytes) -> None:
        assert self.client is not None
        if self.muted.is_set():
            self.kept.append(data)
            self.kept_one.set()
            return
        step = self.cut or len(data)
        for begin in range(0, len(data), step):
            self.client.sendall(data[begin : begin + step])

    def inject(self, data: bytes) -> None:
        """Send bytes that nobody asked for."""
        assert self.client is not None
        self.client.sendall(data)

    def hang_up(self) -> None:
        """End the client's connection."""
        if self.client is not None:
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the thread and release the sockets."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._thread.join(5.0)
