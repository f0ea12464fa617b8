"""Commands to a live run from another process of the same user.

The process of a run listens on 127.0.0.1 at a port of the kernel's choice, and writes port and a random
token into `control.json` in the run's folder, which only the user may read. A client sends one line of JSON
with the token and a command, and gets one line back: the state of the run, or why the command was refused.
Commands are only put into the engine's queue; the engine obeys when it looks up. A line that is too long,
malformed, or without the token has no effect.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from unicodedata import category

from labctl.errors import LabctlError

Kind = Literal["pause", "pause_now", "continue", "stop", "abort", "note", "keep_light"]
CONTROL_FILE = "control.json"
MAX_TEXT = 4000
"""Longest reason or note, in characters."""

_KINDS = frozenset(get_args(Kind))
_STATUS = "status"
_MAX_REQUEST = 32_768
_MAX_REPLY = 262_144
_SERVER_LIMIT_S = 2.0
_CLIENT_LIMIT_S = 5.0
_POLL_S = 0.1
_ADVICE = "`labctl status` shows which runs live"

_log = logging.getLogger(__name__)


class RemoteError(LabctlError):
    """A command that did not reach a run, or was refused by it."""


class NoLiveRun(RemoteError):
    """There is no process behind the run any more."""


class BadRequest(RemoteError):
    """A line that is not a command to this run."""


@dataclass(frozen=True)
class Command:
    """What somebody asks of a run; `reason` is the text of a note, or why, and may be empty.

    pause, stop: after the present point. pause_now, abort: now. keep_light: leave the light on in the
    next pause, or switch it on again in the present one.
    """

    kind: Kind
    reason: str = ""


@dataclass(frozen=True)
class Reply:
    """How the run is: its state, and what else it tells (progress, for instance)."""

    state: str
    details: dict[str, Any] = field(default_factory=dict)


class CommandPort:
    """Listens for commands to a run until it is closed; a context manager.

    commands: where they go. state: the run's present state; details: what else `labctl status` should
    know, as JSON can hold it. Both are called in a thread of the port.
    """

    def __init__(
        self,
        run_folder: Path,
        commands: queue.SimpleQueue[Command],
        state: Callable[[], str],
        details: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._file = run_folder / CONTROL_FILE
        self._server = _Server(secrets.token_hex(16), commands, state, details)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="command port", daemon=True
        )
        self._thread.start()
        try:
            _write_private(self._file, {"port": self._server.port, "token": self._server.token})
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Listen no more; idempotent."""
        with suppress(FileNotFoundError):
            self._file.unlink()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_CLIENT_LIMIT_S)

    def __enter__(self) -> CommandPort:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def send_command(
    run_folder: Path, kind: Kind, reason: str = "", *, limit_s: float = _CLIENT_LIMIT_S
) -> Reply:
    """Send a command to the run that lives in `run_folder`, and return how the run was at that moment.

    Raises RemoteError when no run lives there, it does not answer within `limit_s`, or refuses.
    """
    return _ask(run_folder, kind, reason, limit_s)


def ask_status(run_folder: Path, *, limit_s: float = _CLIENT_LIMIT_S) -> Reply:
    """How the run that lives in `run_folder` is. Raises RemoteError like `send_command`."""
    return _ask(run_folder, _STATUS, "", limit_s)


def live_runs(root: Path) -> dict[Path, Reply]:
    """The runs under `root` that answer, newest first, and how each one is."""
    replies = {}
    files = root.glob(f"????-??-??/*/{CONTROL_FILE}")
    for folder in sorted((file.parent for file in files), key=lambda f: f.parts[-2:], reverse=True):
        with suppress(RemoteError):  # the file of a run that was killed
            replies[folder] = ask_status(folder)
    return replies


def decode_request(line: bytes, token: str) -> Command | None:
    """The command in a line that a client sent, None for the question how the run is. Raises BadRequest."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest("not a line of JSON") from error
    if not isinstance(request, dict) or set(request) != {"token", "kind", "reason"}:
        raise BadRequest("a request has token, kind and reason")
    given, kind, reason = request["token"], request["kind"], request["reason"]
    if not isinstance(given, str) or not secrets.compare_digest(_bytes(given), _bytes(token)):
        raise BadRequest("wrong token")
    if not isinstance(kind, str) or kind not in {*_KINDS, _STATUS}:
        raise BadRequest(f"no command {kind!r:.50}; there are {', '.join(sorted(_KINDS))}")
    if not isinstance(reason, str) or not _is_text(reason):
        raise BadRequest(f"the text must have no control characters and at most {MAX_TEXT} characters")
    if kind == "note" and not reason.strip():
        raise BadRequest("a note needs a text")
    return None if kind == _STATUS else Command(kind, reason)  # type: ignore[arg-type]


class _Server(socketserver.ThreadingTCPServer):
    """One short-lived thread per client; they end with the process."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        token: str,
        commands: queue.SimpleQueue[Command],
        state: Callable[[], str],
        details: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self._commands = commands
        self._state = state
        self._details = details

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def answer(self, line: bytes) -> dict[str, Any]:
        """Queue the command in `line`, or not, and say so."""
        try:
            command = decode_request(line, self.token)
        except BadRequest as error:
            return {"error": str(error)}
        if command is not None:
            self._commands.put(command)
        return {"state": self._state(), "details": dict(self._details())}

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.warning("a client of the command port could not be served", exc_info=True)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        with suppress(OSError):  # a client that is slow or gone has no answer
            line = _read_line(self.request, _MAX_REQUEST, time.monotonic() + _SERVER_LIMIT_S)
            self.request.sendall(_line(self.server.answer(line)))


def _ask(run_folder: Path, kind: str, reason: str, limit_s: float) -> Reply:
    port, token = _address(run_folder)
    deadline_s = time.monotonic() + limit_s
    try:
        with socket.create_connection(("127.0.0.1", port), limit_s) as connection:
            connection.sendall(_line({"token": token, "kind": kind, "reason": reason}))
            reply = json.loads(_read_line(connection, _MAX_REPLY, deadline_s))
    except ConnectionRefusedError as error:
        raise NoLiveRun(f"{run_folder}: the run is not alive any more; {_ADVICE}") from error
    except (OSError, ValueError) as error:
        raise RemoteError(f"{run_folder}: no answer from the run ({error}); try again") from error
    if not isinstance(reply, dict) or "state" not in reply:
        complaint = reply.get("error") if isinstance(reply, dict) else reply
        raise RemoteError(f"{run_folder}: the run refused the command: {complaint}")
    return Reply(str(reply["state"]), dict(reply.get("details") or {}))


def _address(run_folder: Path) -> tuple[int, str]:
    file = run_folder / CONTROL_FILE
    try:
        content = json.loads(file.read_bytes())
        return int(content["port"]), str(content["token"])
    except FileNotFoundError as error:
        raise NoLiveRun(f"{run_folder}: no run lives here; {_ADVICE}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RemoteError(f"{file}: cannot be read ({error}); {_ADVICE}") from error


def _write_private(file: Path, content: dict[str, Any]) -> None:
    """Write a file that only the user may read, whole or not at all; an earlier one is replaced."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(_line(content))
    draft.replace(file)


def _read_line(connection: socket.socket, limit: int, deadline_s: float) -> bytes:
    """One line without its end. Raises OSError when it is longer than `limit`, cut off, or late."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if len(line) > limit:
            raise OSError("the line is too long")
        connection.settimeout(max(deadline_s - time.monotonic(), 1e-3))
        received = connection.recv(4096)
        if not received:
            raise OSError("the connection ended in the middle of a line")
        line += received
    return bytes(line[:-1])


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, default=str).encode() + b"\n"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_text(text: str) -> bool:
    """Whether a record can hold it: no control characters but line ends, no half characters."""
    return len(text) <= MAX_TEXT and all(c in "\n\t" or category(c) not in ("Cc", "Cs") for c in text)
