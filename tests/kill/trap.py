"""Where and how the victim dies: one trap, set at a place in the code, that springs once.

When it springs the victim says so, waits until the harness has done its part (sent its signals, looked at
the light) and then does its own: exit, crash, raise or hang. The other end is `tests.kill.harness`.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.kill.trial import Trial


class Trap:
    """The trap of this process; does nothing until it is armed.

    before: called when it springs, before anything is said. limit: the wall time (monotonic) by which the
    engine promised its next beat.
    """

    def __init__(self) -> None:
        self.point = -1
        self.leaving = False
        self.trial = Trial("", "")
        self.before: Callable[[], None] = lambda: None
        self.limit: Callable[[], float | None] = lambda: None
        self._say_fd = self._hear_fd = -1
        self._sprung = threading.Lock()

    def arm(self, trial: Trial, say_fd: int, hear_fd: int) -> None:
        """Get ready for `trial`; say on one pipe, hear on the other."""
        self.trial, self._say_fd, self._hear_fd = trial, say_fd, hear_fd

    def at(self, phase: str, place: int = 0) -> None:
        """The run is here; springs if this is where the trial is to happen."""
        if (phase, place) == (self.trial.phase, self.trial.place) and self._sprung.acquire(blocking=False):
            self._spring()

    def say(self, word: str, **fields: Any) -> None:
        """Tell the harness."""
        os.write(self._say_fd, json.dumps({"word": word, **fields}).encode() + b"\n")

    def _spring(self) -> None:
        self.before()
        self.say("reached", limit=self.limit())
        os.read(self._hear_fd, 1)
        act = _ACTS.get(self.trial.kind)
        self.say("acting", time=time.monotonic())
        if act is not None:
            act()


def _exit() -> NoReturn:
    os._exit(77)


def _crash() -> None:
    ctypes.string_at(0)


def _raise() -> NoReturn:
    raise RuntimeError("the sample fell off")


def _run_out_of_memory() -> NoReturn:
    raise MemoryError


def _wait_for_ever() -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire()


def _hold_the_interpreter() -> None:
    """A call into C that never gives the interpreter lock back."""
    ctypes.PyDLL(None).sleep(3600)


_ACTS: dict[str, Callable[[], None]] = {
    "os_exit": _exit,
    "sigsegv": _crash,
    "exception": _raise,
    "memory_error": _run_out_of_memory,
    "deadlock": _wait_for_ever,
    "gil": _hold_the_interpreter,
}

TRAP = Trap()
