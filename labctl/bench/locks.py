"""One owner per instrument: a lock file for every canonical address, in a folder shared by all programs.

The lock is the kernel's (`flock`; `msvcrt.locking` on Windows) and ends with the last process that holds the
file open, however it ends, so there are no stale locks. The file holds a line of JSON that says who the owner
is, and goes with its owner. Where several users share a bench, point LABCTL_LOCKS to a folder that all of
them may write to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from labctl.errors import LabctlError

LOCKS_VARIABLE = "LABCTL_LOCKS"
PATIENCE_S = 1.0
"""Wall time that an owner gets who is on the way out."""
_RETRY_S = 0.02
_WINDOWS_OFFSET = 1 << 30  # beyond the text, because locked bytes cannot be read there
_VISA_SOCKET = re.compile(r"TCPIP\d*::(?P<host>[^:]+)::(?P<port>\d+)::SOCKET", re.IGNORECASE)


class BenchBusy(LabctlError, RuntimeError):
    """Another program holds an instrument; the message names it."""


@dataclass(frozen=True)
class Owner:
    """Who holds an instrument: the command, its process, since when (ISO time with zone), on which host."""

    command: str
    pid: int
    since: str
    host: str

    @classmethod
    def here(cls, command: str = "") -> Owner:
        """This process, by its own command line unless `command` is given."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(command or _command_line(), os.getpid(), now, socket.gethostname())

    @property
    def clock_time(self) -> str:
        """Hour and minute of `since`."""
        return self.since[11:16]


def runtime_folder() -> Path:
    """The folder of locks, made if missing: $LABCTL_LOCKS, $XDG_RUNTIME_DIR/labctl or ~/.labctl/locks."""
    given = os.environ.get(LOCKS_VARIABLE)
    session = os.environ.get("XDG_RUNTIME_DIR")
    fallback = Path(session) / "labctl" if session else Path.home() / ".labctl" / "locks"
    folder = Path(given) if given else fallback
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def canonical(address: str) -> str:
    """The one spelling of an address: links of serial devices resolved, hosts in lower case, VISA upper."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address.strip().lower()
    if scheme == "serial" and rest.startswith("/"):
        return f"serial://{os.path.realpath(rest)}"
    if scheme == "serial" and "://" not in rest:
        return f"serial://{rest.upper()}"
    if scheme == "visa":
        on_socket = _VISA_SOCKET.fullmatch(rest)
        return _endpoint(f"{on_socket['host']}:{on_socket['port']}") if on_socket else f"visa://{rest.upper()}"
    if scheme in ("tcp", "vendor") or rest.startswith("socket://"):
        return _endpoint(re.split(r"://|@", rest)[-1])
    return f"{scheme}://{rest.lower()}"


@dataclass(frozen=True)
class _Lock:
    path: Path
    descriptor: int


class Locks:
    """Locks that this process holds, one per address. A second process may share them: see `adopt`."""

    def __init__(self, locks: Iterable[_Lock] = ()) -> None:
        self._locks = list(locks)

    @classmethod
    def acquire(
        cls, addresses: Mapping[str, str], owner: Owner | None = None, patience_s: float = PATIENCE_S
    ) -> Locks:
        """Lock the addresses of instruments, {name: address}; an address that occurs twice is locked once.

        Raises BenchBusy, naming instrument and owner, when another process still holds one of them after
        `patience_s` of wall time; then none is held.
        """
        held = cls()
        deadline = time.monotonic() + patience_s
        try:
            for place, name in {canonical(address): name for name, address in addresses.items()}.items():
                held._locks.append(_acquire_one(place, f"{name} ({addresses[name]})", deadline))
            held.sign(owner or Owner.here())
        except BaseException:
            held.release()
            raise
        return held

    @classmethod
    def adopt(cls, paths: Iterable[str], descriptors: Iterable[int]) -> Locks:
        """Locks received from the process that acquired them; they are held until both let go."""
        return cls(
            _Lock(Path(path), descriptor) for path, descriptor in zip(paths, descriptors, strict=True)
        )

    @property
    def paths(self) -> list[str]:
        """The lock files, in the order of `descriptors`."""
        return [str(lock.path) for lock in self._locks]

    @property
    def descriptors(self) -> list[int]:
        """The open lock files, to be handed to another process."""
        return [lock.descriptor for lock in self._locks]

    def sign(self, owner: Owner) -> None:
        """Write into the files who holds them."""
        text = json.dumps(asdict(owner)).encode()
        for lock in self._locks:
            os.ftruncate(lock.descriptor, 0)
            os.lseek(lock.descriptor, 0, os.SEEK_SET)
            os.write(lock.descriptor, text)

    def release(self) -> None:
        """Give the instruments free and remove the files; for the last holder. Idempotent."""
        for lock in self._locks:
            with suppress(OSError):  # an open file cannot be removed on Windows; it is only litter
                lock.path.unlink()
        self.leave()

    def leave(self) -> None:
        """Let go without giving free: another process that shares the locks keeps them. Idempotent."""
        locks, self._locks = self._locks, []
        for lock in locks:
            os.close(lock.descriptor)


def _acquire_one(place: str, what: str, deadline: float) -> _Lock:
    digest = hashlib.sha256(place.encode()).hexdigest()[:8]
    path = runtime_folder() / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', place)[:60]}-{digest}.lock"
    while (lock := _try(path)) is None:
        if time.monotonic() >= deadline:
            raise BenchBusy(f"{what} is held by {_describe(path)}; end it or wait")
        threading.Event().wait(_RETRY_S)
    return lock


def _try(path: Path) -> _Lock | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    # an owner that went has removed the file: a lock on what has no name any more is worth nothing
    if _lock_file(descriptor) and _is_file(descriptor, path):
        return _Lock(path, descriptor)
    os.close(descriptor)
    return None


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock_file(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _WINDOWS_OFFSET, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _describe(path: Path) -> str:
    try:
        owner = Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it is about to be written, or just gone
        return f"another program ({path})"
    elsewhere = f" on {owner.host}" if owner.host != socket.gethostname() else ""
    return f"`{owner.command}`, pid {owner.pid}{elsewhere}, since {owner.clock_time}"


def _endpoint(text: str) -> str:
    host, _, port = text.lower().rpartition(":")
    return f"tcp://{'127.0.0.1' if host == 'localhost' else host}:{port}"


def _command_line() -> str:
    program, *arguments = sys.argv or [""]
    name = Path(program).name
    if name in ("", "-c", "__main__.py"):
        name = Path(program).parent.name or "python"
    return shlex.join([name, *arguments])
