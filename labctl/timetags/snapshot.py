"""Copies of a state that another thread keeps changing: consistent, and never at that thread's expense."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

_State = TypeVar("_State")
_PATIENCE_S = 1e-3


class Handover(Generic[_State]):
    """Lets one thread change a state and any others take copies of it, without a lock.

    The thread that changes never waits. A copy that was spoilt by a change is thrown away; whoever could not
    get one between two changes is handed one at the end of the current change.
    """

    def __init__(self, copy: Callable[[], _State]) -> None:
        self._copy = copy
        self._changes = 0  # odd while a change is under way
        self._requests: deque[SimpleQueue[_State]] = deque()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the state in the block; for one thread at a time."""
        self._changes += 1
        try:
            yield
        finally:
            self._changes += 1
            while self._requests:
                self._requests.popleft().put(self._copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Handover[_State]:
        # a copy of the owner serves nobody's requests
        return Handover(deepcopy(self._copy, memo))

    @contextmanager
    def _spoilt_by_a_change(self, before: int) -> Iterator[None]:
        try:
            yield
        except Exception:
            # what is copied while it changes may be in no state to be copied
            if self._changes == before:
                raise

    def take(self) -> _State:
        """A copy of the state as it was before or after a change, never in the middle of one."""
        request: SimpleQueue[_State] = SimpleQueue()
        while True:
            before = self._changes
            if before % 2 == 0:
                with self._spoilt_by_a_change(before):
                    copy = self._copy()
                    if self._changes == before:
                        return copy
            if request not in self._requests:
                self._requests.append(request)
            try:
                return request.get(timeout=_PATIENCE_S)
            except Empty:
                continue
