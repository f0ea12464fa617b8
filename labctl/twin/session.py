"""A session serves one client of one simulated instrument. Its reader gives every write to the device with
the world lock held and sends what is due; its sender brings the world to the due time of late replies, so
that a device can hear "stop" while its answer is still to come.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from labctl.twin.device import Reply, SimDevice
from labctl.twin.faults import ANSWER_KINDS, Fault, FaultBook, as_bytes, spoil, trip_arguments
from labctl.twin.presence import Presence
from labctl.twin.timekeeper import Timekeeper, TwinClosedError
from labctl.twin.wires import Wire

GRACE_S = 0.002
"""Wall time that a late reply leaves to other commands that are to start at the same world time."""
TRANSCRIPT_ENTRIES = 4096
TRANSCRIPT_BYTES = 4096
HEARD_BYTES = 4096

_log = logging.getLogger(__name__)


class Transcript:
    """The last writes in both directions, and how many bytes ever went each way.

    Entries are (world time in ps, ">" to the device or "<" from it, at most 4096 bytes).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[tuple[int, str, bytes]] = deque(maxlen=TRANSCRIPT_ENTRIES)
        self._bytes = {">": 0, "<": 0}

    def note(self, time_ps: int, direction: str, data: bytes) -> None:
        with self._lock:
            self._entries.append((time_ps, direction, data[:TRANSCRIPT_BYTES]))
            self._bytes[direction] += len(data)

    def entries(self) -> list[tuple[int, str, bytes]]:
        with self._lock:
            return list(self._entries)

    def bytes_in(self) -> int:
        """Bytes that the device received."""
        return self._bytes[">"]

    def bytes_out(self) -> int:
        """Bytes that the device sent."""
        return self._bytes["<"]


@dataclass(frozen=True)
class DevicePort:
    """The socket at the back of an instrument: the device and all that its sessions share."""

    name: str
    device: SimDevice
    keeper: Timekeeper
    faults: FaultBook
    presence: Presence
    transcript: Transcript = field(default_factory=Transcript)
    grace_s: float = GRACE_S


@dataclass(order=True)
class _Outgoing:
    due_ps: int
    number: int
    data: bytes = field(compare=False)
    fault: Fault | None = field(compare=False)
    not_before_wall: float = field(compare=False)


class Session:
    """One client on one wire, from its coming to its leaving."""

    def __init__(self, port: DevicePort, wire: Wire) -> None:
        self._port = port
        self._keeper = port.keeper
        self._wire = wire
        self._outbox: list[_Outgoing] = []
        self._mail = threading.Condition(port.keeper.lock)  # type: ignore[arg-type]  # any lock does
        self._numbers = itertools.count()
        self._ended = threading.Event()
        self._sending = threading.Lock()
        self._heard = b""
        self._spoiler: Fault | None = None

    def run(self) -> None:
        """Serve the client until it leaves or the wire is hung up; the caller closes the wire."""
        sender = threading.Thread(target=self._send_late, name=f"{self._port.name}-late", daemon=True)
        sender.start()
        try:
            with self._keeper.lock:
                self._post(self._port.device.connected())
            self._send_due()
            while (chunk := self._wire.receive()) and self._take(chunk):
                self._send_due()
        except OSError as error:
            _log.info("%s: the line broke: %s", self._port.name, error)
        except Exception:
            _log.exception("%s: the simulated device failed; its line is closed", self._port.name)
        finally:
            self.hang_up()
            sender.join()
            with self._keeper.lock:
                self._port.device.disconnected()

    def say(self, data: bytes) -> None:
        """Send bytes that nobody asked for."""
        with self._keeper.lock:
            self._post([Reply(data)])
        with contextlib.suppress(OSError):
            self._send_due()

    def hang_up(self) -> None:
        """Cut the line; any thread that does not hold the world lock."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._wire.hang_up()
        with self._keeper.lock:
            self._mail.notify_all()
            self._keeper.changed.notify_all()

    def _take(self, chunk: bytes) -> bool:
        """Give a write of the client to the device; False if the line breaks over it."""
        port = self._port
        port.presence.touch()
        with self._keeper.lock:
            port.transcript.note(self._keeper.time_ps, ">", chunk)
            self._heard = (self._heard + chunk)[-HEARD_BYTES:]
            fault = port.faults.strike(port.name, self._heard)
            kind = fault.kind if fault is not None else ""
            if fault is not None:
                self._heard = b""
            if fault is not None and kind in ANSWER_KINDS:
                self._spoiler = fault
            if fault is not None and kind in ("busy", "unsolicited"):
                self._post([Reply(as_bytes(fault.value))])
            if fault is not None and kind == "device":
                port.device.trip(*trip_arguments(fault.value))
            if kind != "busy":
                self._answer(port.device.feed(chunk))
        return kind != "disconnect"

    def _answer(self, replies: list[Reply]) -> None:
        if not replies:
            return
        self._post(replies, self._spoiler)
        self._spoiler = None
        self._heard = b""

    def _post(self, replies: list[Reply], fault: Fault | None = None) -> None:
        """Put replies into the outbox (world lock held); a fault spoils the first of them."""
        now_ps = self._keeper.time_ps
        for reply in replies:
            if reply.due_ps is not None and reply.due_ps > now_ps:
                self._keeper.at(reply.due_ps, partial(self._port.device.released, reply))
        not_before_wall = time.monotonic() + self._port.grace_s
        for reply in replies:
            due_ps = now_ps if reply.due_ps is None else reply.due_ps
            outgoing = _Outgoing(due_ps, next(self._numbers), reply.data, fault, not_before_wall)
            heapq.heappush(self._outbox, outgoing)
            fault = None
            if due_ps > now_ps:
                self._mail.notify_all()

    def _send_due(self) -> None:
        """Send what is due, in due order; one thread at a time."""
        with self._sending:
            while (due := self._pop_due()) is not None:
                self._transmit(*due)

    def _pop_due(self) -> tuple[int, _Outgoing] | None:
        with self._keeper.lock:
            now_ps = self._keeper.time_ps
            if not self._outbox or self._outbox[0].due_ps > now_ps:
                return None
            return now_ps, heapq.heappop(self._outbox)

    def _transmit(self, now_ps: int, outgoing: _Outgoing) -> None:
        for wait_s, piece in spoil(outgoing.fault, outgoing.data):
            if wait_s and self._ended.wait(wait_s):
                return
            self._port.transcript.note(now_ps, "<", piece)
            self._wire.send(piece)

    def _send_late(self) -> None:
        try:
            while self._await_due():
                self._send_due()
        except (OSError, TwinClosedError) as error:
            _log.info("%s: a late reply was not sent: %s", self._port.name, error)
        self.hang_up()

    def _await_due(self) -> bool:
        """Bring the world to the next reply that is due; False when the session ended."""
        while True:
            with self._keeper.lock:
                self._mail.wait_for(lambda: self._outbox or self._ended.is_set())
                if self._ended.is_set():
                    return False
                head = self._outbox[0]
                if head.due_ps <= self._keeper.time_ps:
                    return True
                grace_s = head.not_before_wall - time.monotonic()
                if grace_s > 0:
                    self._keeper.changed.wait(grace_s)
                else:
                    self._keeper.approach(head.due_ps)
