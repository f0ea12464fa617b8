"""Where and how the victim dies: one trap, set at a place in the code, that springs once.

When it springs the victim says so, waits until the harness has done its part (sent its signals, looked at
the light) and then does its own: exit, crash, raise or hang. The other end is `tests.kill.harness`.
A hang would last as long as the engine has promised at that place, which may be minutes; for hangs the trap
shortens every promise from then on to `HANG_S`, where anything was promised at all.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from labctl.bench.heart import KILL_GRACE_S, Heart
from tests.kill.trial import HANGS, Trial

HANG_S = 1.0
"""Wall time after which the next beat is promised when the engine hangs."""


class Trap:
    """The trap of this process; does nothing until it is armed.

    point: number of the point that the experiment is at, from 0. leaving: the experiment is over. heart: that
    of the bench. before: called when it springs, before anything is said.
    """

    def __init__(self) -> None:
        self.point = -1
        self.leaving = False
        self.trial = Trial("", "")
        self.heart: Heart | None = None
        self.before: Callable[[], None] = lambda: None
        self._say_fd = self._hear_fd = -1
        self._once = threading.Lock()

    def arm(self, trial: Trial, say_fd: int, hear_fd: int) -> None:
        """Get ready for `trial`; say on one pipe, hear on the other."""
        self.trial, self._say_fd, self._hear_fd = trial, say_fd, hear_fd

    def at(self, phase: str, place: int = 0) -> None:
        """The run is here; springs if this is where the trial is to happen."""
        if (phase, place) == (self.trial.phase, self.trial.place) and self._once.acquire(blocking=False):
            self._spring()

    @property
    def sprung(self) -> bool:
        """Whether it has sprung."""
        return self._once.locked()

    def say(self, word: str, **fields: Any) -> None:
        """Tell the harness."""
        os.write(self._say_fd, json.dumps({"word": word, **fields}).encode() + b"\n")

    def _spring(self) -> None:
        self.before()
        self.say("reached", limit=self._shorten_promises() if self.trial.kind in HANGS else None)
        os.read(self._hear_fd, 1)
        act = _ACTS.get(self.trial.kind)
        self.say("acting", time=time.monotonic())
        if act is not None:
            act()


    def _shorten_promises(self) -> float | None:
        """The time (monotonic) by which the guardian has to end the process, if nothing beats any more."""
        heart = self.heart
        if heart is None or not math.isfinite(heart._due_s):
            return None
        promise = heart._promise

        def promise_less(due_s: float, what: str) -> None:
            promise(min(due_s, time.monotonic() + HANG_S), what)

        heart._promise = promise_less  # type: ignore[method-assign]  # another thread may hang than the engine's
        promise_less(heart._due_s, heart._what)
        return heart._due_s + KILL_GRACE_S


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
