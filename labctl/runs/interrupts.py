"""What is asked of a run from outside: by signals, by commands of another process, by the program itself.

Requests are only noted here. The engine looks at them at point borders and inside its waits, never inside an
instrument transaction. Ctrl-C once stops after the point, twice stops now with everything cleaned up, and the
third time the guardian takes over: the process ends on the spot, and its guardian makes the bench safe.
SIGTERM and SIGHUP count as two.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from labctl.runs.remote import Command

AFTER_POINT = 1
NOW = 2
HAND_OVER = 3
HAND_OVER_EXIT_CODE = 130


class Requests:
    """Stop and pause requests, and the queue of commands from other processes; any thread may ask.

    stop_level: 0 not at all, AFTER_POINT or NOW. pause: "" not at all, else why; `pause_now` does not wait
    for the end of the point.
    """

    def __init__(self) -> None:
        self.stop_level = 0
        self.stop_reason = ""
        self.pause = ""
        self.pause_now = False
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()

    @property
    def pending(self) -> bool:
        """Whether there is anything to look at; cheap."""
        return bool(self.stop_level or self.pause) or not self.commands.empty()

    def ask_stop(self, level: int, reason: str) -> None:
        """Ask to stop; a request only ever becomes more urgent."""
        if level > self.stop_level:
            self.stop_reason, self.stop_level = reason, level

    def ask_pause(self, reason: str, *, now: bool) -> None:
        """Ask to pause, at the end of the point or now."""
        self.pause_now = self.pause_now or now
        self.pause = reason

    def withdraw_pause(self) -> None:
        """Go on, or do not pause after all."""
        self.pause, self.pause_now = "", False


@contextmanager
def listen_to_signals(
    requests: Requests, tell: Callable[[str], None], running: Callable[[], bool]
) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into requests; outside the main thread nothing is changed.

    tell: informs the user. running: False while the bench is still being opened; a signal is then raised as
    KeyboardInterrupt, because there is no point to wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        _urge(requests, tell, running, requests.stop_level + 1, "Ctrl-C")

    def terminate(signum: int, frame: FrameType | None) -> None:
        _urge(requests, tell, running, NOW, signal.Signals(signum).name)

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: terminate}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = terminate
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _urge(
    requests: Requests, tell: Callable[[str], None], running: Callable[[], bool], level: int, name: str
) -> None:
    if level >= HAND_OVER:
        os._exit(HAND_OVER_EXIT_CODE)
    first = requests.stop_level == 0
    requests.ask_stop(level, name if first else f"{name} twice")
    if not running():
        raise KeyboardInterrupt
    if level == AFTER_POINT:
        tell("stopping after this point; press Ctrl-C again to stop now")
    else:
        tell("stopping now; once more, and the guardian takes over")
