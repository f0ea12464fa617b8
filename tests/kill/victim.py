"""The process that is killed: `labctl run kill_me` with a trap at one place.

    python -m tests.kill.victim ORDERS       (a line of JSON, see `Orders`)

It is the same entry point as a user's, with three things added from outside: the trap; the log, written
outside the run's folder with `write()`, of every row and tag block that the journal has acknowledged; and a
word to the harness after each handled signal. The analysis after the run is left out.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Any

from tests.kill.acknowledged import AcknowledgementLog
from tests.kill.places import SETTERS, replaced
from tests.kill.trap import TRAP
from tests.kill.trial import Trial


@dataclass(frozen=True)
class Orders:
    """What the harness wants: bench file, folder of runs, acknowledgement log, pipes."""

    trial: Trial
    bench: str
    root: str
    log: str
    say_fd: int
    hear_fd: int

    def to_text(self) -> str:
        """As an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Orders:
        """Inverse of `to_text`."""
        fields = json.loads(text)
        return cls(**{**fields, "trial": Trial(**fields["trial"])})


def main() -> None:
    """Set everything up, then be `labctl`."""
    orders = Orders.from_text(sys.argv[1])
    trial = orders.trial
    TRAP.arm(trial, orders.say_fd, orders.hear_fd)
    if trial.kind == "terminal":
        _take_terminal()
    _tell_of_signals()
    log = AcknowledgementLog(orders.log)
    log.install()
    TRAP.before = log.drain
    _know_heart()
    SETTERS[trial.phase](trial.place)
    _leave_out_analysis()
    quiet = [] if trial.kind == "terminal" else ["--json"]
    sys.argv = ["labctl", "run", "kill_me", "--bench", orders.bench, "--out", orders.root, *quiet]
    from labctl.cli import main as labctl

    labctl()


def _know_heart() -> None:
    from labctl.bench.heart import Heart

    def start(original: Any, heart: Heart, *arguments: Any, **named: Any) -> None:
        original(heart, *arguments, **named)
        TRAP.heart = heart

    replaced(Heart, "__init__", start)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _leave_out_analysis() -> None:
    import labctl.runs.execute as execute

    def conclude(taken: Any) -> Any:
        return execute.Outcome(taken.directory, taken.status, taken.reason, None, {})

    execute.conclude = conclude


def _tell_of_signals() -> None:
    """Say when a handler has run: a second Ctrl-C before that would melt into the first."""
    install = signal.signal

    def telling(number: int, handler: Any) -> Any:
        if not callable(handler) or isinstance(handler, signal.Handlers):
            return install(number, handler)

        @functools.wraps(handler)
        def tell(signum: int, frame: Any) -> Any:
            try:
                return handler(signum, frame)
            finally:
                TRAP.say("handled", signal=signum)

        return install(number, tell)

    signal.signal = telling  # type: ignore[assignment]
    telling(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    main()
