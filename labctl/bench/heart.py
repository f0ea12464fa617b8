"""The heart of a bench process: its engine says that it lives, and by when it will say so again.

A beat is a promise: "my next beat comes within `limit_s`". Its *limit* is the promised time plus
`KILL_GRACE_S`. When the promised time has passed, the guardian closes the shutters that it can reach beside
the engine and leaves a notice; at the limit it ends the engine and makes everything safe. Times are wall
time (`time.monotonic`), on a twin as well. What takes long declares it with `promise`, and each kind of work
has a longest time that can be promised, so that no mistake disarms the guardian for good:

    kind         default     longest   what
    slice            1 s         5 s   a turn of the engine's loop
    code            10 s      3600 s   the experiment's own code, and declared computations
    transaction     10 s       120 s   one exchange with an instrument: its link's time-out
    compile         60 s       120 s   the first call of a compiled function
    write           10 s        60 s   waiting for the disk
    connect         60 s       300 s   opening the bench
    finalise       600 s      3600 s   completing the file; nothing emits any more

At rest (before the first beat, and after `rest`) nothing is promised: an open bench in a notebook may idle.
The death of the process is acted on at once, whatever was promised.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import repeat
from pathlib import Path
from typing import Protocol

from labctl.bench.page import Page
from labctl.clock import Clock

KILL_GRACE_S = 1.0
"""Wall time between a promise that was missed and the end of the process."""
SILENCE_S = 5.0
"""A guardian that has not looked for this long is not there."""
_LOOK_S = 0.05
_SLEEP_S = 1.0
_STEP_S = 0.5


class Kind(Enum):
    """Kinds of work: the promise of each by default, and the longest that it can be, in s of wall time."""

    SLICE = (1.0, 5.0)
    CODE = (10.0, 3600.0)
    TRANSACTION = (10.0, 120.0)
    COMPILE = (60.0, 120.0)
    WRITE = (10.0, 60.0)
    CONNECT = (60.0, 300.0)
    FINALISE = (600.0, 3600.0)

    @property
    def default_s(self) -> float:
        """What is promised if nothing is said."""
        return self.value[0]

    @property
    def longest_s(self) -> float:
        """A longer promise is shortened to this."""
        return self.value[1]


class Watcher(Protocol):
    """The guardian, as the heart sees it."""

    @property
    def page(self) -> Page: ...

    def running(self) -> bool: ...

    def restart(self) -> None: ...

    def tell(self, order: str, **fields: object) -> None: ...


class Heart:
    """Beats of the engine, and what the guardian makes of them. Without a guardian nobody watches.

    Beats and promises are the engine thread's; the promises of other threads count for nothing.
    """

    def __init__(self, guardian: Watcher | None = None) -> None:
        self._guardian = guardian
        self._page = guardian.page if guardian is not None else None
        self._thread = threading.get_ident()
        self._due_s = float("inf")
        self._what = ""
        self._alive = True
        self._looked_s = 0.0
        self._tick_s = -1.0
        self._silence_s = 0.0

    def beat(self, limit_s: float = Kind.SLICE.default_s, what: str = "") -> None:
        """Say "I live; my next beat comes within `limit_s` of wall time". what: is doing this until then."""
        self._thread = threading.get_ident()
        self._promise(time.monotonic() + limit_s, what)

    def renew(self) -> None:
        """Promise once more what was promised last, for a turn of the loop; from within a long wait."""
        if threading.get_ident() == self._thread and self._due_s < float("inf"):
            self._promise(max(self._due_s, time.monotonic() + Kind.SLICE.default_s), self._what)

    def rest(self) -> None:
        """Promise nothing until the next beat."""
        self._promise(float("inf"), "at rest")

    @contextmanager
    def promise(self, what: str, limit_s: float | None = None, kind: Kind = Kind.CODE) -> Iterator[None]:
        """Declare that one long step ends within `limit_s` of wall time, by default as usual for its kind.

        It may be nested; the outer promise does not run out meanwhile. A promise that is longer than its kind
        allows is shortened.
        """
        if threading.get_ident() != self._thread:
            yield
            return
        begin_s, due_s, outer = time.monotonic(), self._due_s, self._what
        limit_s = kind.default_s if limit_s is None else min(limit_s, kind.longest_s)
        self._promise(begin_s + limit_s, what)
        try:
            yield
        finally:
            self._promise(due_s + time.monotonic() - begin_s, outer)

    def guardian_alive(self) -> bool:
        """Whether the guardian runs and looks; cheap, since it really looks only every 50 ms."""
        now_s = time.monotonic()
        if self._guardian is not None and now_s - self._looked_s >= _LOOK_S:
            self._alive = self._guardian.running() and self._silent_s(now_s) < SILENCE_S
            self._looked_s = now_s
        return self._alive

    def _silent_s(self, now_s: float) -> float:
        """For how long the guardian has not looked, in wall time that this process has itself seen pass.

        When the whole machine stands still, the first of the two that runs again must not blame the other:
        of a step between two looks at most `_STEP_S` counts.
        """
        tick_s, _ = self._page.read_tick() if self._page is not None else (0.0, False)
        kept = tick_s != self._tick_s
        self._tick_s = tick_s
        self._silence_s = 0.0 if kept else self._silence_s + min(now_s - self._looked_s, _STEP_S)
        return self._silence_s

    def notice(self) -> str:
        """What the guardian did short of ending this process, told once; mostly empty."""
        return self._page.take_notice() if self._page is not None else ""

    def restart_guardian(self) -> None:
        """Start another guardian instead of one that has died, and wait until it is ready.

        Raises GuardianError. Until it returns nobody watches: make safe first.
        """
        if self._guardian is None:
            return
        self._guardian.restart()
        self._page = self._guardian.page
        self._promise(self._due_s, self._what)
        self._looked_s = 0.0

    def record_in(self, folder: Path) -> None:
        """The guardian is to write what it does into `guardian.jsonl` in this folder of a run."""
        self._tell("record", folder=str(folder.resolve()))

    def hand_over(self, reason: str) -> None:
        """Let the guardian end this process at once and make everything safe. It does not wait for that."""
        self._tell("take over", reason=reason)

    def _tell(self, order: str, **fields: object) -> None:
        if self._guardian is not None:
            self._guardian.tell(order, **fields)

    def _promise(self, due_s: float, what: str) -> None:
        self._due_s = due_s
        page = self._page
        if page is None:
            return
        if what != self._what:
            page.say_what(what)
        page.beat(due_s)
        self._what = what


class BeatingClock:
    """The clock of a watched bench: whoever waits by it, also a driver for the end of a move, beats on."""

    def __init__(self, clock: Clock, heart: Heart) -> None:
        self._clock = clock
        self._heart = heart

    def now(self) -> float:
        """Bench time in s."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Let bench time pass, in steps of at most `_SLEEP_S`, each with a promise of its own."""
        whole, rest_s = divmod(max(seconds, 0.0), _SLEEP_S)
        for step_s in (*repeat(_SLEEP_S, int(whole)), rest_s):
            with self._heart.promise("waiting", _SLEEP_S + Kind.SLICE.default_s, Kind.SLICE):
                self._clock.sleep(step_s)
