"""The bench process's end of its guardian: start it, tell it what to watch over, take leave of it.

Orders are lines of JSON on the guardian's standard input. On POSIX that is a socket, so that the locks of the
instruments can be shared over it; elsewhere it is a pipe, and the guardian locks them when it takes over.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from labctl.bench.config import BenchConfig
from labctl.bench.heart import Heart
from labctl.bench.locks import Locks, Owner
from labctl.bench.page import Page
from labctl.errors import LabctlError

START_S = 60.0
"""Wall time that a guardian may take until it is ready."""
LEAVE_S = 5.0
"""Wall time to wait until a guardian that was told goodbye is gone."""
_POLL_S = 0.005
_left_behind: list[subprocess.Popen[bytes]] = []


class GuardianError(LabctlError, RuntimeError):
    """The guardian did not start."""


class Guardian:
    """A guardian process that this process started. It is not ready before `await_ready` returns."""

    def __init__(self, config: BenchConfig) -> None:
        self._config = config
        self._told: list[tuple[dict[str, Any], list[int]]] = []
        self._lock = threading.Lock()
        self._start()

    @property
    def page(self) -> Page:
        """The memory shared with it."""
        return self._page

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    def running(self) -> bool:
        """Whether the process lives."""
        return self._child.poll() is None

    def await_ready(self) -> None:
        """Wait until nothing but opening the links is left to do. Raises GuardianError."""
        deadline = time.monotonic() + START_S
        while not self._page.read_tick()[1]:
            if not self.running() or time.monotonic() >= deadline:
                reason = self._page.take_notice() or f"it said nothing; exit status {self._child.poll()}"
                raise GuardianError(f"the guardian of bench {self._config.bench!r} did not start: {reason}")
            threading.Event().wait(_POLL_S)
        self._page.forget_name()

    def watch_over(self, addresses: Mapping[str, str], twin: str | None, locks: Locks) -> None:
        """Tell it where the instruments are (resolved addresses), of which twin, and share their locks."""
        self._order(
            locks.descriptors, "open", addresses=dict(addresses), twin=twin, locks=locks.paths,
            command=Owner.here().command,
        )  # fmt: skip

    def tell(self, order: str, **fields: object) -> None:
        """Give an order; a guardian that has died does not hear it, and its successor does."""
        self._order([], order, **fields)

    def restart(self) -> None:
        """Replace a guardian that has died or hangs, and wait until it is ready. Raises GuardianError."""
        self._end()
        self._start()
        for message, descriptors in self._told:
            self._send(message, descriptors)
        self.await_ready()

    def take_leave(self, unsafe: Iterable[str]) -> bool:
        """Tell it that all links are closed and which instruments are not safe. Idempotent.

        Returns True when it has gone, False when it stays, to make them safe.
        """
        self._order([], "goodbye", unsafe=list(unsafe))
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(LEAVE_S)
        gone = not self.running()
        if not gone:
            _left_behind.append(self._child)  # kept, so that it is not taken for one that was forgotten
        self._channel.close()
        self._page.close()
        return gone

    def _start(self) -> None:
        self._page = Page.create()
        command = [sys.executable, "-P", "-m", "labctl.bench.guardian"]
        command += ["--engine", str(os.getpid()), "--page", str(self._page.path)]
        self._channel, theirs = _Channel.pair()
        # its own session: what ends the terminal or the process group of the engine does not reach it
        self._child = subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=_terminal(),
            env=os.environ | {"PYTHONPATH": _import_path()}, start_new_session=True,
        )  # fmt: skip
        self._channel.connect(self._child, theirs)
        self._send({"order": "prepare", "config": self._config.model_dump(mode="json")}, [])

    def _end(self) -> None:
        self._child.kill()
        self._child.wait()
        self._channel.close()
        self._page.close()

    def _order(self, descriptors: list[int], order: str, **fields: object) -> None:
        message = {"order": order, **fields}
        self._told.append((message, descriptors))
        self._send(message, descriptors)

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        with self._lock, suppress(OSError):  # it has died, which `running` tells
            self._channel.send(json.dumps(message).encode() + b"\n", descriptors)


class _Channel:
    """The way to the guardian's standard input: a socket, or a pipe where descriptors cannot be sent."""

    def __init__(self, ours: socket.socket | None) -> None:
        self._socket = ours
        self._pipe: Any = None

    @classmethod
    def pair(cls) -> tuple[_Channel, Any]:
        """Our end, and what to give to the child as its standard input."""
        if sys.platform == "win32":
            return cls(None), subprocess.PIPE
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    def connect(self, child: subprocess.Popen[bytes], theirs: Any) -> None:
        """The child has its end now."""
        self._pipe = child.stdin
        if self._socket is not None:
            theirs.close()

    def send(self, line: bytes, descriptors: list[int]) -> None:
        if self._socket is None:
            self._pipe.write(line)
            self._pipe.flush()
        elif descriptors:
            sent = socket.send_fds(self._socket, [line], descriptors)
            self._socket.sendall(line[sent:])
        else:
            self._socket.sendall(line)

    def close(self) -> None:
        with suppress(OSError):
            (self._socket or self._pipe).close()


def start_guardian(config: BenchConfig) -> Heart:
    """A heart that a new guardian listens to. It prepares itself meanwhile; see `Guardian.await_ready`."""
    return Heart(Guardian(config))


def _terminal() -> int | None:
    """It may speak on our standard error as long as that is a terminal: nobody waits for that to end."""
    try:
        return None if os.isatty(2) else subprocess.DEVNULL
    except OSError:
        return subprocess.DEVNULL


def _import_path() -> str:
    """It finds what this process finds."""
    return os.pathsep.join(str(Path(entry or ".").resolve()) for entry in sys.path)
