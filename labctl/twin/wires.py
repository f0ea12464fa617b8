"""The two kinds of wire that a simulated instrument hangs on: a TCP socket and a pseudo-terminal.

A wire carries bytes and nothing else. `hang_up` may be called by any thread and ends whatever waits on the
wire; `close` gives the descriptors back and is called once, when nobody uses the wire any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from typing import Protocol

READ_BYTES = 65536
OVERRUN_S = 1.0
"""A serial line has no back-pressure: what nobody reads for this long (wall time) is lost."""

_log = logging.getLogger(__name__)


class Wire(Protocol):
    """One end of a cable."""

    def receive(self) -> bytes:
        """The next bytes; empty when the other end is gone or the wire was hung up."""
        ...

    def send(self, data: bytes) -> None:
        """Send all bytes. Raises OSError when the wire is cut."""
        ...

    def hang_up(self) -> None: ...

    def close(self) -> None: ...


class SocketWire:
    """An accepted TCP connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock

    def receive(self) -> bytes:
        try:
            return self._socket.recv(READ_BYTES)
        except ConnectionError:
            return b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def peer_gone(self) -> bool:
        """Whether the client has closed its end, even if bytes of it are still unread."""
        return peer_gone(self._socket)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


def peer_gone(sock: socket.socket) -> bool:
    """Whether the other end of a connection has closed it.

    Where the system cannot tell while bytes are unread (no POLLRDHUP), only an empty line counts as closed.
    """
    if sock.fileno() < 0:
        return True
    if hasattr(select, "POLLRDHUP"):
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        return bool(poll.poll(0))
    if not select.select([sock], [], [], 0)[0]:
        return False
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


class PtyWire:
    """A raw pseudo-terminal; the slave side is held open so that clients may come and go.

    Were it not, a read on the master would fail as soon as the first client closed its end.
    """

    def __init__(self) -> None:
        import pty
        import tty

        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._alarm_read, self._alarm_write = os.pipe()
        self._lock = threading.Lock()
        self._closed = False

    def receive(self) -> bytes:
        while True:
            readable, _, _ = select.select([self._master, self._alarm_read], [], [])
            if self._alarm_read in readable:
                return b""
            with contextlib.suppress(BlockingIOError):
                return os.read(self._master, READ_BYTES)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            alarm, writable, _ = select.select([self._alarm_read], [self._master], [], OVERRUN_S)
            if alarm:
                return
            if not writable:
                _log.warning("%s: nobody reads; %d bytes are lost", self.path, len(rest))
                return
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._master, rest) :]

    def hang_up(self) -> None:
        with self._lock:
            if not self._closed:
                os.write(self._alarm_write, b"!")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for descriptor in (self._master, self._slave, self._alarm_read, self._alarm_write):
                os.close(descriptor)
