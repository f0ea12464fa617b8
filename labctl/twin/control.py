"""The control port: one JSON object per line asks, one answers. Here the owner moves time, tests read the
truth and script faults. Every connection has its own thread; a lease ends with the connection that took it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import labctl
from labctl.twin.faults import PROMPT_KINDS, FaultBook, as_bytes, check, trip_arguments
from labctl.twin.host import LOOPBACK, Host
from labctl.twin.presence import Presence
from labctl.twin.timekeeper import Timekeeper
from labctl.twin.wires import peer_gone

MAX_LINE_BYTES = 1 << 20
TRANSCRIPT_LAST = 1000

_log = logging.getLogger(__name__)


class RequestError(ValueError):
    """A request that cannot be served as it is."""


@dataclasses.dataclass(frozen=True)
class Twin:
    """All that the control port speaks for. `world` has `truth()` and `set(**knobs)`."""

    name: str
    seed: int
    twin_id: str
    world: Any
    keeper: Timekeeper
    hosts: Mapping[str, Host]
    faults: FaultBook
    presence: Presence
    stop: Callable[[], None]


class ControlServer:
    """Listens on the loopback interface and serves the operations of one twin."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._listener = socket.create_server((LOOPBACK, 0))
        self.address = f"{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()

    def start(self) -> None:
        """Accept clients in the background."""
        threading.Thread(target=self._accept, name="control-listen", daemon=True).start()

    def close(self) -> None:
        """Cut off all clients."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), name="control-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._twin.presence.enter()
        desk = _Desk(self._twin, client)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _talk(client, desk)
        except OSError as error:
            _log.info("a control connection broke: %s", error)
        finally:
            self._twin.keeper.release(desk)
            with self._lock:
                self._clients.discard(client)
            client.close()
            self._twin.presence.leave()


def _talk(client: socket.socket, desk: _Desk) -> None:
    with client.makefile("rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                client.sendall(_encode(_refusal(f"a request is at most {MAX_LINE_BYTES} bytes long")))
                return
            client.sendall(_encode(desk.answer(line)))
            desk.after_answer()


class _Desk:
    """Serves one connection; it is the holder of the lease that was taken there."""

    def __init__(self, twin: Twin, client: socket.socket) -> None:
        self._twin = twin
        self._client = client
        self._stopping = False
        self._operations: dict[str, Callable[..., dict[str, Any]]] = {
            "hello": self._hello,
            "lease": self._lease,
            "release": self._release,
            "advance": self._advance,
            "time": self._time,
            "wait": self._wait,
            "truth": self._truth,
            "set": self._set,
            "fault": self._fault,
            "faults_clear": self._faults_clear,
            "transcript": self._transcript,
            "shutdown": self._shutdown,
        }

    def answer(self, line: bytes) -> dict[str, Any]:
        """The reply to one line; whatever is wrong with the request is said in it."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            return _refusal(f"not a line of JSON: {error}")
        if not isinstance(request, dict):
            return _refusal('a request is a JSON object like {"op": "hello"}')
        marks = {"id": request.pop("id")} if "id" in request else {}
        return marks | self._serve(request)

    def after_answer(self) -> None:
        """Stop the twin when that was asked for; the answer is on its way by now."""
        if self._stopping:
            self._twin.stop()

    def _serve(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request.pop("op", None)
        operation = self._operations.get(name) if isinstance(name, str) else None
        if operation is None:
            return _refusal(f"unknown op {name!r}; known are {', '.join(self._operations)}")
        try:
            return {"ok": True} | operation(**request)
        except Exception as error:  # a bad request must never end the twin; it is told to the client
            if not isinstance(error, ValueError | TypeError | RuntimeError):
                _log.exception("op %s failed", name)
            return _refusal(f"op {name}: {_one_line(error)}")

    def _hello(self) -> dict[str, Any]:
        twin = self._twin
        devices = {name: _describe(host) for name, host in twin.hosts.items()}
        return {
            "twin_id": twin.twin_id,
            "name": twin.name,
            "seed": twin.seed,
            "time_ps": twin.keeper.now_ps(),
            "pid": os.getpid(),
            "version": labctl.__version__,
            "owner": twin.keeper.owner,
            "devices": devices,
        }

    def _lease(self, client: str) -> dict[str, Any]:
        self._twin.keeper.take(self, str(client))
        return {"granted": True, "time_ps": self._twin.keeper.now_ps()}

    def _release(self) -> dict[str, Any]:
        self._twin.keeper.release(self)
        return {}

    def _advance(self, ps: int) -> dict[str, Any]:
        return {"time_ps": self._twin.keeper.advance(self, _whole(ps, "ps"), alive=self._alive)}

    def _time(self) -> dict[str, Any]:
        return {"time_ps": self._twin.keeper.now_ps()}

    def _wait(self, until_ps: int, timeout_s: float = 10.0) -> dict[str, Any]:
        reached = self._twin.keeper.wait_until(_whole(until_ps, "until_ps"), float(timeout_s))
        return {"time_ps": self._twin.keeper.now_ps(), "reached": reached}

    def _truth(self) -> dict[str, Any]:
        with self._twin.keeper.lock:
            devices = {name: host.port.device.state() for name, host in self._twin.hosts.items()}
            return self._twin.world.truth() | {"devices": devices, "time_ps": self._twin.keeper.time_ps}

    def _set(self, knob: str, value: Any) -> dict[str, Any]:
        with self._twin.keeper.lock:
            self._twin.world.set(**{knob: value})
        return {}

    def _fault(
        self, device: str, kind: str, match: str | None = None, count: int = 1, value: Any = None
    ) -> dict[str, Any]:
        host = self._host(device)
        if match is None and kind in PROMPT_KINDS:
            self._strike_now(host, kind, value)
            return {}
        with self._twin.keeper.lock:
            self._twin.faults.arm(device, kind, match or "", count, value)
        return {}

    def _strike_now(self, host: Host, kind: str, value: Any) -> None:
        check(kind, value)
        if kind == "device":
            with self._twin.keeper.lock:
                host.port.device.trip(*trip_arguments(value))
        for session in host.sessions():
            if kind == "unsolicited":
                session.say(as_bytes(value))
            if kind == "disconnect":
                session.hang_up()

    def _faults_clear(self) -> dict[str, Any]:
        with self._twin.keeper.lock:
            self._twin.faults.clear()
        return {}

    def _transcript(self, device: str, last: int = TRANSCRIPT_LAST) -> dict[str, Any]:
        transcript = self._host(device).port.transcript
        entries = transcript.entries()[-_whole(last, "last") :] if last else []
        return {
            "entries": [[time_ps, way, data.decode("latin-1")] for time_ps, way, data in entries],
            "bytes_in": transcript.bytes_in(),
            "bytes_out": transcript.bytes_out(),
        }

    def _shutdown(self) -> dict[str, Any]:
        self._stopping = True
        return {}

    def _host(self, device: str) -> Host:
        if device not in self._twin.hosts:
            raise RequestError(f"no device {device!r}; this twin has {', '.join(self._twin.hosts) or 'none'}")
        return self._twin.hosts[device]

    def _alive(self) -> bool:
        return not peer_gone(self._client)


def _describe(host: Host) -> dict[str, Any]:
    transcript = host.port.transcript
    return {
        "address": host.address,
        "bytes_in": transcript.bytes_in(),
        "bytes_out": transcript.bytes_out(),
    }


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be a whole number, not {value!r}")
    return value


def _refusal(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}


def _one_line(error: Exception) -> str:
    """An error as one line; a wrong field shows up as Python's complaint about an argument."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace("_Desk._", "")


def _encode(reply: Mapping[str, Any]) -> bytes:
    return json.dumps(reply, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Values of the world as JSON: arrays and their scalars, dataclasses, bytes, anything else as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
