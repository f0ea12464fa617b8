"""World time has one owner. The timekeeper holds the lock of the world, knows who owns its time (the lease)
and is the only one to move it: by the owner's advances, by late replies of devices while there is an owner,
or by its own pacer when a speed is set and nobody owns the time. It moves in steps and gives the lock away
between them, so that readers are served however long the way is.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

PS_PER_S = 1_000_000_000_000
STEP_PS = PS_PER_S // 4
"""Longest stretch of world time that is computed with the lock held."""
PACE_S = 0.02
"""Wall time between two steps of a paced world."""
IDLE_S = 0.2
"""A world that did not move for this long is not made to catch up."""
STUCK_S = 0.1
"""Wall time after which a world that could not go on is tried again."""

_log = logging.getLogger(__name__)


class LeaseError(RuntimeError):
    """Somebody moved or wanted time that is not theirs."""


class TwinClosedError(RuntimeError):
    """The twin is shutting down."""


class TimedWorld(Protocol):
    """What the timekeeper needs of a world."""

    @property
    def now_ps(self) -> int: ...

    def advance_to(self, t_ps: int) -> None: ...


class FairLock:
    """A lock that is handed over in the order of arrival; not re-entrant.

    An ordinary lock that is released and taken again at once starves its waiters; here a thread that moves
    the world step by step lets everybody who waits look at the world between two steps.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._holder: int | None = None
        self._queue: deque[tuple[int, threading.Lock]] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; `timeout` is there for the signature of a lock only and must stay -1."""
        me = threading.get_ident()
        with self._guard:
            if self._holder is None:
                self._holder = me
                return True
            if not blocking:
                return False
            if self._holder == me:
                raise RuntimeError("this thread holds the world already")
            gate = threading.Lock()
            gate.acquire()
            self._queue.append((me, gate))
        gate.acquire()
        return True

    def release(self) -> None:
        with self._guard:
            if self._holder is None:
                raise RuntimeError("the world is not held by anybody")
            if not self._queue:
                self._holder = None
                return
            self._holder, gate = self._queue.popleft()
            gate.release()

    def waiting(self) -> int:
        """How many threads stand in the queue."""
        with self._guard:
            return len(self._queue)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class _Pace:
    """Wall-clock pace of a world: when is it allowed to be where."""

    def __init__(self, speed: float) -> None:
        self._ps_per_s = speed * PS_PER_S
        self.stride_ps = max(1, round(PACE_S * self._ps_per_s))
        self._start_wall = 0.0
        self._start_ps = 0
        self._seen_wall = float("-inf")

    def delay_s(self, now_ps: int, goal_ps: int) -> float:
        """Wall time until the world may be at `goal_ps`; not positive: at once."""
        wall = time.monotonic()
        if wall - self._seen_wall > IDLE_S:
            self._start_wall, self._start_ps = wall, now_ps
        self._seen_wall = wall
        return self._start_wall + (goal_ps - self._start_ps) / self._ps_per_s - wall


class Timekeeper:
    """The lock, the lease and the time of one world.

    `speed` is in world seconds per wall second; None is as fast as it can be computed.
    Everybody who touches the world or a device holds `lock`; `changed` is notified, with the lock held,
    whenever time moved or the lease went to another.
    """

    def __init__(self, world: TimedWorld, speed: float | None = None, step_ps: int = STEP_PS) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"the speed of a twin must be positive and finite, not {speed!r}")
        self.lock = FairLock()
        self.changed = threading.Condition(self.lock)  # type: ignore[arg-type]  # any lock does
        self._world = world
        self._step_ps = step_ps
        self._pace = _Pace(speed) if speed is not None else None
        self._holder: Hashable | None = None
        self._client = ""
        self._closed = False
        self._pacer: threading.Thread | None = None
        self._appointments: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._trouble = ""

    @property
    def owner(self) -> str | None:
        """Name of the client that owns the time, None if nobody does."""
        return self._client if self._holder is not None else None

    @property
    def time_ps(self) -> int:
        """World time for those who hold the lock."""
        return self._world.now_ps

    def now_ps(self) -> int:
        """World time; waits for a step that is being computed."""
        with self.lock:
            return self._world.now_ps

    def take(self, holder: Hashable, client: str) -> None:
        """Give the lease to `holder`, who is called `client`; again for the same holder is fine.

        Raises LeaseError, naming the owner, when another has it.
        """
        with self.changed:
            if self._holder not in (None, holder):
                raise LeaseError(
                    f"the time of this twin is owned by {self._client!r}; wait until it is released, "
                    f"or start another twin"
                )
            self._holder, self._client = holder, client
            self.changed.notify_all()

    def release(self, holder: Hashable) -> None:
        """End the lease of `holder`; nothing happens if it has none."""
        with self.changed:
            if self._holder != holder:
                return
            self._holder = None
            self.changed.notify_all()

    def advance(self, holder: Hashable, ps: int, alive: Callable[[], bool] = lambda: True) -> int:
        """Move the world by `ps` from where it is now and return its time in ps.

        Raises LeaseError when `holder` does not own the time or is not `alive` any more on the way.
        """
        if ps < 0:
            raise ValueError(f"world time never goes back: advance by {ps} ps")
        with self.lock:
            self._require(holder)
            target_ps = self._world.now_ps + ps
        while True:
            with self.lock:
                if self._world.now_ps >= target_ps:
                    return self._world.now_ps
                self._require(holder)
                if not alive():
                    raise LeaseError(f"{self._client!r} left while the world was on its way")
                self._step_towards(target_ps)

    def at(self, due_ps: int, action: Callable[[], None]) -> None:
        """Call `action` when the world is at `due_ps` exactly (lock held, now and then)."""
        heapq.heappush(self._appointments, (due_ps, next(self._numbers), action))

    def approach(self, due_ps: int) -> None:
        """Bring the world a step nearer to `due_ps` for a late reply; call with the lock held.

        With no owner it waits for somebody else to move the world; it also waits while the world cannot go
        on. Returns after one step or one wake-up. Raises TwinClosedError.
        """
        if self._closed:
            raise TwinClosedError("the twin is shutting down")
        if self._holder is None:
            self.changed.wait()
        else:
            self._step_or_wait(due_ps)

    def wait_until(self, t_ps: int, timeout_s: float | None = None) -> bool:
        """Wait (wall time) for others to bring the world to `t_ps`; False if it did not get there."""
        with self.changed:
            self.changed.wait_for(lambda: self._closed or self._world.now_ps >= t_ps, timeout_s)
            return self._world.now_ps >= t_ps

    def start_pacer(self) -> None:
        """Let the world run at `speed` whenever nobody owns its time."""
        if self._pace is None:
            raise ValueError("a pacer needs a speed")
        self._pacer = threading.Thread(target=self._run_free, name="twin-pacer", daemon=True)
        self._pacer.start()

    def close(self) -> None:
        """Stop time for good; whoever waits for it is told."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        if self._pacer is not None:
            self._pacer.join()

    def _require(self, holder: Hashable) -> None:
        if self._closed:
            raise TwinClosedError("the twin is shutting down")
        if self._holder != holder:
            who = f"owned by {self._client!r}" if self._holder is not None else "not owned by anybody"
            raise LeaseError(f"only the owner moves the world, and its time is {who}; take the lease first")

    def _step_towards(self, target_ps: int) -> None:
        """One step, or the wait that the pace asks for (lock held; given away while waiting)."""
        now_ps = self._world.now_ps
        if self._appointments:
            target_ps = min(target_ps, self._appointments[0][0])
        stride_ps = min(target_ps - now_ps, self._step_ps)
        if self._pace is not None:
            stride_ps = min(stride_ps, self._pace.stride_ps)
            delay_s = self._pace.delay_s(now_ps, now_ps + stride_ps)
            if delay_s > 0:
                self.changed.wait(delay_s)
                return
        self._world.advance_to(now_ps + stride_ps)
        while self._appointments and self._appointments[0][0] <= self._world.now_ps:
            heapq.heappop(self._appointments)[2]()
        self._trouble = ""
        self.changed.notify_all()

    def _run_free(self) -> None:
        while not self._closed:
            with self.changed:
                if self._closed:
                    return
                if self._holder is not None:
                    self.changed.wait()
                    continue
                self._step_or_wait(self._world.now_ps + self._step_ps)

    def _step_or_wait(self, target_ps: int) -> None:
        """A step for those who have nobody to complain to: a world that cannot go on is tried again later."""
        try:
            self._step_towards(target_ps)
        except Exception as error:  # the knobs may be put right, then it goes on
            if str(error) != self._trouble:
                _log.exception("the world stands still")
            self._trouble = str(error)
            self.changed.wait(STUCK_S)
