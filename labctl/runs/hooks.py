"""Tell me at night: the command of `labctl.toml` is called when something happens to a run.

The command is a child process with one JSON object on its standard input and the main fields in its
environment. It is called from a thread behind a bounded queue and has a time limit, so the engine never
waits for it, and whatever goes wrong with it is reported and never raised. What it prints is kept in
`hooks.log` beside the run.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labctl.settings import HookEvent, Settings

LOG_FILE = "hooks.log"
OUTPUT_LIMIT = 64 << 10
"""Bytes that are kept of what one call prints."""
_WAITING_LIMIT = 32
_IN_ENVIRONMENT = ("event", "run", "experiment", "bench", "status", "reason", "host", "time")
_EVENT_OF_STATUS: dict[str, HookEvent] = {"success": "done", "abort": "abort"}


@dataclass(frozen=True)
class HookCall:
    """How one call of the command ended; `problem` is "" when it did its work."""

    event: str
    problem: str
    output: str
    duration_s: float


class Hooks:
    """The hook of one run.

    run: its folder. about: what every message says of it (`experiment`, `bench`).
    on_failure: told in one line, in another thread, what went wrong with a call.
    """

    def __init__(
        self, settings: Settings, run: Path, on_failure: Callable[[str], None], **about: str
    ) -> None:
        self._settings = settings
        self._run = run
        self._on_failure = on_failure
        self._about = about
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING_LIMIT)
        self._thread = threading.Thread(target=self._call_all, name=f"hooks {run}", daemon=True)
        if settings.hooks.command:
            self._thread.start()

    def fire(self, event: HookEvent, **fields: Any) -> None:
        """Have the command called, if it is wanted for this event; returns at once and never raises."""
        hooks = self._settings.hooks
        if not hooks.command or event not in hooks.on:
            return
        message = describe(event, run=str(self._run.absolute()), **self._about, **fields)
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._on_failure(f"hook for {event!r} left out: {_WAITING_LIMIT} calls are waiting already")

    def ended(self, status: str, reason: str = "") -> None:
        """The run is over and its file complete: `done`, `abort` or `fail`, by its status."""
        self.fire(_EVENT_OF_STATUS.get(status, "fail"), status=status, reason=reason)

    def close(self, limit_s: float | None = None) -> None:
        """Wait until all calls are over, at most `limit_s` of wall time (else what two calls may take)."""
        if not self._thread.is_alive():
            return
        limit_s = 2 * self._settings.hooks.timeout if limit_s is None else limit_s
        with suppress(queue.Full):
            self._waiting.put(None, timeout=limit_s)
        self._thread.join(limit_s)
        if self._thread.is_alive():
            self._on_failure(f"hook {self._settings.hooks.command[0]!r} is still at work; not waited for")

    def _call_all(self) -> None:
        while (message := self._waiting.get()) is not None:
            call = call_hook(self._settings, message)
            try:
                _keep_output(self._run / LOG_FILE, message, call)
            except OSError as error:
                self._on_failure(f"{self._run / LOG_FILE}: cannot be written ({error.strerror})")
            if call.problem:
                self._on_failure(f"hook for {call.event!r}: {call.problem}")


def describe(event: str, **fields: Any) -> dict[str, Any]:
    """The message of an event: its fields, this host and the time."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"event": event, **fields, "host": socket.gethostname(), "time": now}


def call_hook(settings: Settings, message: dict[str, Any]) -> HookCall:
    """Call the command with a message and wait for its end; a problem is in the result, never raised."""
    begin_s, output = time.monotonic(), ""
    try:
        problem, output = _run(settings, message)
    except (OSError, ValueError, TypeError) as error:
        problem = f"{_name(settings)} cannot be called from {settings.folder}: {error}"
    return HookCall(str(message["event"]), problem, output, time.monotonic() - begin_s)


def _run(settings: Settings, message: dict[str, Any]) -> tuple[str, str]:
    """What went wrong with the command, "" if nothing, and what it printed."""
    # files and not pipes: nobody can block us, not even a grandchild that outlives the command
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed:
        given.write(json.dumps(message, default=str).encode() + b"\n")
        given.seek(0)
        try:
            code = subprocess.run(
                settings.hooks.command, stdin=given, stdout=printed, stderr=subprocess.STDOUT,
                cwd=settings.folder, env=_environment(message), timeout=settings.hooks.timeout,
            ).returncode  # fmt: skip
            problem = f"{_name(settings)} ended with code {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"{_name(settings)} did not end within {settings.hooks.timeout:g} s and was killed"
        printed.seek(0)
        return problem, printed.read(OUTPUT_LIMIT).decode("utf-8", "replace")


def _name(settings: Settings) -> str:
    return repr(settings.hooks.command[0])


def _environment(message: dict[str, Any]) -> dict[str, str]:
    told = {f"LABCTL_{name.upper()}": str(message.get(name, "")) for name in _IN_ENVIRONMENT}
    return os.environ | {name: text.replace("\0", "") for name, text in told.items()}


def _keep_output(file: Path, message: dict[str, Any], call: HookCall) -> None:
    head = f"{message['time']} {call.event}: {call.problem or 'done'} ({call.duration_s:.1f} s)\n"
    with file.open("a", encoding="utf-8") as log:
        log.write(head + call.output + ("" if call.output.endswith("\n") or not call.output else "\n"))
