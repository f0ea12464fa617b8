"""Hosts put simulated instruments on real transports: a TCP listener or a pseudo-terminal, with an address
that a client can open. Like the real instrument, a host serves one client at a time unless told otherwise.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from labctl.twin.session import DevicePort, Session
from labctl.twin.wires import PtyWire, SocketWire

LOOPBACK = "127.0.0.1"
TRANSPORTS = ("tcp", "pty", "visa", "vendor")
LEAVING_S = 1.0
"""Wall time that a client which has closed its end gets to have its last bytes served."""


@dataclass(frozen=True)
class DeviceSpec:
    """How an instrument is simulated and reached.

    `sim` is "package.module:Class"; `module` names the vendor library's stand-in for transport vendor.
    With `many_clients` a second client is served, else it is accepted and closed at once.
    """

    sim: str
    transport: str = "tcp"
    options: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    many_clients: bool = False


class Host(Protocol):
    """A device port on a transport."""

    port: DevicePort

    @property
    def address(self) -> str: ...

    def start(self) -> None: ...

    def sessions(self) -> list[Session]: ...

    def close(self) -> None: ...


class TcpHost:
    """A device port behind a TCP listener on the loopback interface.

    `address_form` makes the address from the port number, e.g. "tcp://127.0.0.1:{}".
    """

    def __init__(self, port: DevicePort, address_form: str, many_clients: bool = False) -> None:
        self.port = port
        self._many_clients = many_clients
        self._listener = socket.create_server((LOOPBACK, 0))
        self._address = address_form.format(self._listener.getsockname()[1])
        self._left = threading.Condition()
        self._clients: dict[Session, SocketWire] = {}
        self._closed = False

    @property
    def address(self) -> str:
        return self._address

    def start(self) -> None:
        """Accept clients in the background."""
        threading.Thread(target=self._accept, name=f"{self.port.name}-listen", daemon=True).start()

    def sessions(self) -> list[Session]:
        with self._left:
            return list(self._clients)

    def close(self) -> None:
        """Refuse new clients, cut off the old ones and wait until they are gone."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in self.sessions():
            session.hang_up()
        with self._left:
            self._left.wait_for(lambda: not self._clients, LEAVING_S)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._closed or not self._has_room():
                sock.close()
                continue
            wire = SocketWire(sock)
            session = Session(self.port, wire)
            with self._left:
                self._clients[session] = wire
            self.port.presence.enter()
            threading.Thread(
                target=self._serve, args=(session, wire), name=f"{self.port.name}-client", daemon=True
            ).start()

    def _has_room(self) -> bool:
        """Whether another client may come; one whose peer is gone is seen out first."""
        with self._left:
            if self._many_clients or not self._clients:
                return True
            if not all(wire.peer_gone() for wire in self._clients.values()):
                return False
            if self._left.wait_for(lambda: not self._clients, LEAVING_S):
                return True
        for session in self.sessions():
            session.hang_up()
        with self._left:
            return self._left.wait_for(lambda: not self._clients, LEAVING_S)

    def _serve(self, session: Session, wire: SocketWire) -> None:
        try:
            session.run()
        finally:
            wire.close()
            self.port.presence.leave()
            with self._left:
                del self._clients[session]
                self._left.notify_all()


class PtyHost:
    """A device port behind a pseudo-terminal.

    Clients come and go unseen, and what a dead one left half said stays in the line, as on a serial cable.
    After a disconnect the instrument comes back on a new terminal, with a new address.
    """

    def __init__(self, port: DevicePort) -> None:
        self.port = port
        self._wire = PtyWire()
        self._session = Session(port, self._wire)
        self._thread = threading.Thread(target=self._serve, name=f"{port.name}-line", daemon=True)
        self._closed = False

    @property
    def address(self) -> str:
        return f"serial://{self._wire.path}"

    def start(self) -> None:
        """Serve the line in the background."""
        self._thread.start()

    def sessions(self) -> list[Session]:
        return [self._session]

    def close(self) -> None:
        """Take the terminal away."""
        self._closed = True
        self._session.hang_up()
        self._thread.join(LEAVING_S)

    def _serve(self) -> None:
        while not self._closed:
            wire = self._wire
            self._session.run()
            if not self._closed:
                self._wire = PtyWire()
                self._session = Session(self.port, self._wire)
            wire.close()


def make_host(port: DevicePort, spec: DeviceSpec) -> Host:
    """Put a device on the transport that its spec names; the address is known before it is started.

    A system without pseudo-terminals serves serial devices at serial://socket://HOST:PORT (a pySerial URL).
    Raises ValueError for an unknown transport or a vendor transport without a module.
    """
    forms = {
        "tcp": f"tcp://{LOOPBACK}:{{}}",
        "visa": f"visa://TCPIP0::{LOOPBACK}::{{}}::SOCKET",
        "vendor": f"vendor://{spec.module}@{LOOPBACK}:{{}}",
        "pty": f"serial://socket://{LOOPBACK}:{{}}",
    }
    if spec.transport not in forms:
        raise ValueError(f"{port.name}: unknown transport {spec.transport!r}; use {', '.join(TRANSPORTS)}")
    if spec.transport == "vendor" and not spec.module:
        raise ValueError(f"{port.name}: transport vendor needs `module`, the stand-in of the vendor library")
    if spec.transport == "pty" and sys.platform != "win32":
        return PtyHost(port)
    return TcpHost(port, forms[spec.transport], spec.many_clients)
