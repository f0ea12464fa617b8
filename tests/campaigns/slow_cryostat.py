"""A cryostat that thinks for five seconds before it answers: driver, and the instrument itself."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument
from labctl.instruments.framing import until
from labctl.instruments.link import Link

ANSWER_S = 5.0


class SlowCryostat(LabInstrument):
    """A thermometer at `tcp://host:port`."""

    def __init__(self, name: str, address: str, *, clock: Clock | None = None) -> None:
        link = Link(address, until(b"\n"), instrument=name, timeout_s=2 * ANSWER_S)
        super().__init__(name, link, clock=clock)
        self.temperature = self.add_parameter(
            "temperature",
            unit="K",
            docstring="Temperature of the sample.",
            get_cmd=lambda: float(link.query(b"T?\n")),
            snapshot_exclude=True,
        )


class _Answers(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for _ in self.rfile:
            threading.Event().wait(ANSWER_S)
            self.wfile.write(b"4.2\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@contextmanager
def cryostat() -> Iterator[str]:
    """The instrument, at the address that is given."""
    with _Server(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
