"""A link: one physical wire to an instrument, with one lock, framing, and resynchronisation.

A stale answer must never be taken for the answer to the next question. Therefore a link turns *dirty*
after every time-out, framing error or unexpected byte, and a dirty link resynchronises (terminator,
then drain until the line is quiet) before it is used again. Several instruments on one wire share one
link and hence one lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from labctl.instruments.errors import (
    InstrumentDisconnected,
    InstrumentError,
    InstrumentTimeout,
    ProtocolError,
)
from labctl.instruments.framing import Framer
from labctl.instruments.transports import Transport, open_transport

_TRANSCRIPT_LENGTH = 2000
MARGIN_S = 1.0
"""What a wait may last longer than its time-out, on a busy computer."""

Declare = Callable[[str, float], AbstractContextManager[None]]
"""Tells who watches over the process that something ends within so many seconds."""


def _undeclared(what: str, limit_s: float) -> AbstractContextManager[None]:
    return nullcontext()


class Link:
    """Bytes to and from one instrument, in transactions.

    address: where the instrument is, see `labctl.instruments.transports`.
    framer: cuts answers out of the byte stream.
    instrument: name used in error messages.
    timeout_s: default wall time to wait for an answer.
    resync: bytes that end a half-sent command, sent before draining a dirty line.
    quiet_s: the line counts as drained when nothing has arrived for this long.
    gap_s: least wall time between two commands.
    declare: set by a bench that is watched; every wait for an answer declares how long it may take.
    """

    def __init__(
        self,
        address: str,
        framer: Framer,
        *,
        instrument: str,
        timeout_s: float = 1.0,
        resync: bytes = b"",
        quiet_s: float = 0.05,
        gap_s: float = 0.0,
        serial_settings: dict[str, Any] | None = None,
    ) -> None:
        self.address = address
        self.instrument = instrument
        self.timeout_s = timeout_s
        self.lock = threading.RLock()
        self.bytes_sent = 0
        self.bytes_received = 0
        self.transcript: deque[tuple[float, str, bytes]] = deque(maxlen=_TRANSCRIPT_LENGTH)
        self.declare: Declare = _undeclared
        self._framer = framer
        self._resync = resync
        self._quiet_s = quiet_s
        self._gap_s = gap_s
        self._serial_settings = serial_settings
        self._buffer = bytearray()
        self._dirty = True
        self._last_write_s = 0.0
        self._transport: Transport | None = open_transport(address, instrument, serial_settings)

    @property
    def connected(self) -> bool:
        """False once the connection is lost or closed."""
        return self._transport is not None

    @contextmanager
    def transaction(self, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the wire for several commands. Raises InstrumentTimeout if it stays busy for `timeout_s`."""
        if not self.lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise InstrumentTimeout(
                f"the link is busy for more than {timeout_s} s", instrument=self.instrument
            )
        try:
            yield
        finally:
            self.lock.release()

    def send(self, command: bytes) -> None:
        """Send a command that has no answer."""
        with self.transaction():
            self._prepare(command)
            self._write(command)

    def query(self, command: bytes, *, timeout_s: float | None = None) -> bytes:
        """Send a command and return its answer.

        Raises InstrumentTimeout, InstrumentDisconnected, or ProtocolError when bytes that nobody asked
        for lie on the line; after each of them the link resynchronises before its next use.
        """
        with self.transaction():
            self._prepare(command)
            self._write(command)
            return self.receive(command, timeout_s=timeout_s)

    def receive(self, command: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        """The next message; `command` is named in errors."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        with self.transaction(), self.declare(f"waiting for {self.instrument}", limit_s + MARGIN_S):
            while True:
                message = self._framer(self._buffer)
                if message is not None:
                    return message
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    self._dirty = True
                    raise InstrumentTimeout(
                        "no complete answer in time",
                        instrument=self.instrument,
                        command=command.decode("latin-1"),
                        received=bytes(self._buffer),
                        hint="check the cable, the baud rate and that no other program talks to it",
                    )
                self._read(remaining)

    def resynchronise(self) -> None:
        """End a half-sent command and drop everything on the line until it is quiet."""
        with self.transaction():
            if self._resync:
                self._write(self._resync)
            self._buffer.clear()
            while self._read(self._quiet_s):
                self._buffer.clear()
            self._dirty = False

    def mark_dirty(self) -> None:
        """Distrust the line: resynchronise before the next command."""
        self._dirty = True

    def reopen(self) -> None:
        """Open the connection again after it was lost. The line starts dirty."""
        with self.transaction():
            self.close()
            self._transport = open_transport(self.address, self.instrument, self._serial_settings)
            self._buffer.clear()
            self._dirty = True

    def close(self) -> None:
        """Release the port. Idempotent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _prepare(self, command: bytes) -> None:
        if self._dirty:
            self.resynchronise()
        while self._read(0.0):
            pass
        if self._buffer:
            leftover = bytes(self._buffer)
            self._dirty = True
            raise ProtocolError(
                "bytes that nobody asked for lie on the line",
                instrument=self.instrument,
                command=command.decode("latin-1"),
                received=leftover,
                hint="repeat the command; the link has been marked for resynchronisation",
            )

    def _write(self, data: bytes) -> None:
        wait = self._last_write_s + self._gap_s - time.monotonic()
        if wait > 0:
            threading.Event().wait(wait)
        self._on_transport(lambda transport: transport.write(data), data)
        self._last_write_s = time.monotonic()
        self.bytes_sent += len(data)
        self.transcript.append((time.time(), ">", data))

    def _read(self, timeout_s: float) -> bool:
        data = self._on_transport(lambda transport: transport.read(timeout_s), b"")
        if not data:
            return False
        self._buffer += data
        self.bytes_received += len(data)
        self.transcript.append((time.time(), "<", data))
        return True

    def _on_transport(self, action: Callable[[Transport], Any], command: bytes) -> Any:
        if self._transport is None:
            raise InstrumentDisconnected(
                "the connection is closed",
                instrument=self.instrument,
                command=command.decode("latin-1"),
                hint="open the bench again",
            )
        try:
            return action(self._transport)
        except InstrumentError:
            raise
        except Exception as error:  # pyserial, pyvisa and sockets each raise their own kinds
            self.close()
            self._dirty = True
            raise InstrumentDisconnected(
                f"the connection to {self.address} was lost ({error})",
                instrument=self.instrument,
                command=command.decode("latin-1"),
                hint="check power and cable, then open the bench again",
            ) from error
