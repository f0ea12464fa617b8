"""The states of a run, and which may follow which.

One table says all: whatever is not in it cannot happen, and an attempt is a defect of the engine that is
raised. Light may be on in `LIT` only.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class State(StrEnum):
    """Where a run is."""

    IDLE = "idle"  # the bench is open, nothing has been switched on
    RUNNING = "running"
    PAUSING = "pausing"  # goes on to the end of the point, then pauses
    PAUSED = "paused"  # dark, until somebody continues
    SUSPENDED = "suspended"  # dark, until the interlock that tripped is released
    STOPPING = "stopping"  # goes on to the end of the point, then ends
    ABORTING = "aborting"  # leaves the experiment now
    FINISHING = "finishing"  # everything is made safe and the file is completed
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"


LIT = frozenset({State.RUNNING, State.PAUSING, State.STOPPING})
"""The states in which light may be on (without `keep_light_on_pause`)."""

ENDED = frozenset({State.DONE, State.ABORTED, State.FAILED})

_LEAVING = frozenset({State.ABORTING, State.FINISHING})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.RUNNING, State.FINISHING}),
    State.RUNNING: frozenset({State.PAUSING, State.PAUSED, State.SUSPENDED, State.STOPPING}) | _LEAVING,
    State.PAUSING: frozenset({State.RUNNING, State.PAUSED, State.SUSPENDED, State.STOPPING}) | _LEAVING,
    State.PAUSED: frozenset({State.RUNNING, State.SUSPENDED}) | _LEAVING,
    State.SUSPENDED: frozenset({State.RUNNING, State.PAUSED}) | _LEAVING,
    State.STOPPING: frozenset({State.SUSPENDED, State.PAUSED}) | _LEAVING,
    State.ABORTING: frozenset({State.FINISHING}),
    State.FINISHING: ENDED,
    State.DONE: frozenset(),
    State.ABORTED: frozenset(),
    State.FAILED: frozenset(),
}


class IllegalTransition(RuntimeError):
    """The engine tried what its table does not allow: a defect."""


class StateMachine:
    """The present state; `on_change(state, reason)` is told of every change."""

    def __init__(self, on_change: Callable[[State, str], None]) -> None:
        self.state = State.IDLE
        self.reason = ""
        """Why it is what it is."""
        self._on_change = on_change

    def to(self, state: State, reason: str = "") -> None:
        """Change to `state`; nothing happens if it is the present one. Raises IllegalTransition."""
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"a run that is {self.state} cannot become {state}")
        self.state, self.reason = state, reason
        self._on_change(state, reason)
