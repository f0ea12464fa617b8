"""Stopping a run from outside: Ctrl-C once stops after this point, twice stops now.

The request is only noted here; the engine looks at it at point borders and between the slices of an
acquisition, never inside an instrument transaction. A third Ctrl-C raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

AFTER_POINT = 1
NOW = 2


class StopRequest:
    """How urgently the run was asked to stop: 0 not at all, AFTER_POINT or NOW."""

    def __init__(self) -> None:
        self.level = 0
        self.reason = ""

    def ask(self, level: int, reason: str) -> None:
        """Ask to stop; a request only ever becomes more urgent."""
        if level > self.level:
            self.level, self.reason = level, reason


@contextmanager
def stop_on_signals(request: StopRequest, tell: Callable[[str], None]) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into stop requests while the run lasts; `tell` informs the user."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if request.level >= NOW:
            raise KeyboardInterrupt
        if request.level == 0:
            request.ask(AFTER_POINT, "Ctrl-C")
            tell("stopping after this point; press Ctrl-C again to stop now")
        else:
            request.ask(NOW, "Ctrl-C twice")
            tell("stopping now")

    def terminate(signum: int, frame: FrameType | None) -> None:
        request.ask(NOW, signal.Signals(signum).name)

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: terminate}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = terminate
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
