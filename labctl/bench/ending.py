"""Seeing a process die, and ending it with all that belongs to it.

What belongs to an engine is its process group, if it leads one, else those of its descendants that are in the
same group: a child that has a session or group of its own (the twin, the guardian) is meant to outlive it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.02


def await_death(pid: int) -> None:
    """Return when the process has died; for a child of it."""
    if sys.platform == "win32":
        _await_death_windows(pid)
    elif sys.platform == "linux":
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            select.select([descriptor], [], [])
            os.close(descriptor)
    else:
        while os.getppid() == pid:
            threading.Event().wait(_POLL_S)


@dataclass(frozen=True)
class _Relative:
    """A process, told from a later one that has the same number by when it began."""

    pid: int
    group: int
    began: int


class Family:
    """A process and those that die with it. `look` from time to time: the dead do not tell their children."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._head = _relative(pid)
        self._leads = self._head is not None and self._head.group == pid
        self._children: list[_Relative] = []

    def look(self) -> None:
        """Note who belongs to the process, while it lives; of a dead one what was known is kept."""
        if self._head is None or self._leads:
            return
        found = [_relative(child) for child in _descendants(self._pid)]
        if found:
            self._children = [child for child in found if child and child.group == self._head.group]

    def end(self) -> None:
        """Kill the process, if it still lives, and all that belong to it."""
        with suppress(OSError):
            if sys.platform != "win32":
                os.kill(self._pid, signal.SIGSTOP)  # so that it has no more children meanwhile
        self.look()
        with suppress(OSError):
            os.kill(self._pid, _KILL)
        self.end_rest()

    def end_rest(self) -> None:
        """Kill what belonged to the process, which is dead."""
        if sys.platform != "win32" and self._leads:
            with suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
        for child in self._children:
            if _relative(child.pid) == child:
                with suppress(OSError):
                    os.kill(child.pid, _KILL)


_KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL  # SIGTERM is TerminateProcess there


def _descendants(pid: int) -> list[int]:
    """All processes beneath one, on Linux; elsewhere none are known."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listing.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _relative(pid: int) -> _Relative | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return _Relative(pid, group=int(fields[2]), began=int(fields[19]))


def _await_death_windows(pid: int) -> None:
    import ctypes

    synchronize, forever = 0x00100000, 0xFFFFFFFF
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(synchronize, False, pid)
    if handle:
        kernel.WaitForSingleObject(handle, forever)
        kernel.CloseHandle(handle)
