"""Whether anybody still needs the twin: clients that are connected, and the process that started it."""

from __future__ import annotations

import os
import sys
import threading
import time


class Presence:
    """Counts the clients of a twin and knows since when there has been none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients = 0
        self._last_wall = time.monotonic()

    def enter(self) -> None:
        """A client came."""
        with self._lock:
            self._clients += 1

    def leave(self) -> None:
        """A client went."""
        with self._lock:
            self._clients -= 1
            self._last_wall = time.monotonic()

    def touch(self) -> None:
        """A sign of life on a line that does not know whether a client is there (a pseudo-terminal)."""
        with self._lock:
            self._last_wall = time.monotonic()

    def absent_s(self) -> float:
        """Wall time in s since the last client; 0 while there is one."""
        with self._lock:
            return 0.0 if self._clients else time.monotonic() - self._last_wall


def process_alive(pid: int) -> bool:
    """Whether a process lives; one that is dead and not yet collected by its parent counts as dead."""
    if sys.platform == "win32":
        return _alive_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Linux only; elsewhere there is no cheap way to know, and the answer is no."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


def _alive_windows(pid: int) -> bool:
    """`os.kill(pid, 0)` would send Ctrl-C there, so ask for a handle and whether it is signalled."""
    import ctypes

    synchronize, wait_timeout = 0x00100000, 0x102
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return False
    try:
        return bool(kernel.WaitForSingleObject(handle, 0) == wait_timeout)
    finally:
        kernel.CloseHandle(handle)
