"""The process that is killed: `labctl run kill_me`, with a trap at one place and a log of what was acknowledged.

    python -m tests.kill.victim ORDERS       (a line of JSON, see `Orders`)

It is the same entry point as a user's, with three things added from outside: the trap; the log, written
outside the run's folder with `write()`, of every row and tag block that the journal has acknowledged; and a
word to the harness after each handled signal. The analysis after the run is left out.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.kill.trap import TRAP
from tests.kill.trial import Trial

CONNECTING = ("vis_rotator", "delay_generator", "cw_laser")


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
    AcknowledgementLog(orders.log).install()
    _know_heart()
    _SETTERS[trial.phase](trial.place)
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

    _replaced(Heart, "__init__", start)


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


class AcknowledgementLog:
    """Writes down what the run means to record and, once `acknowledged` says so, that it is safe."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._pending: deque[tuple[int, dict[str, Any]]] = deque()
        self._lock = threading.Lock()
        self._writer: Any = None

    def install(self) -> None:
        """Listen to every `RunWriter`."""
        from labctl.store import RunWriter

        for name, describe in (("row", _row), ("tags", _tags)):
            setattr(RunWriter, name, self._logged(getattr(RunWriter, name), describe))
        for name in ("event", "begin_acquisition", "end_acquisition", "flush", "finish"):
            setattr(RunWriter, name, self._followed(getattr(RunWriter, name)))
        TRAP.before = self.drain

    def drain(self) -> None:
        """Write down all that is acknowledged by now."""
        with self._lock:
            while self._pending and self._writer.acknowledged > self._pending[0][0]:
                self._write("acknowledged", self._pending.popleft()[1])

    def _logged(self, method: Callable[..., int], describe: Callable[..., dict[str, Any]]) -> Any:
        def logged(writer: Any, *arguments: Any, **named: Any) -> int:
            record = describe(*arguments, **named)
            self._write("intended", record)
            number = method(writer, *arguments, **named)
            self._writer = writer
            with self._lock:
                self._pending.append((number, record))
            self.drain()
            return number

        return logged

    def _followed(self, method: Callable[..., Any]) -> Any:
        def followed(writer: Any, *arguments: Any, **named: Any) -> Any:
            result = method(writer, *arguments, **named)
            self.drain()
            return result

        return followed

    def _write(self, what: str, record: dict[str, Any]) -> None:
        os.write(self._fd, json.dumps({"what": what, **record}).encode() + b"\n")


def _row(sweep: str, index: int, attempt: int, values: Any, *_: Any, **__: Any) -> dict[str, Any]:
    return {"kind": "row", "sweep": sweep, "index": index, "attempt": attempt, "values": dict(values)}


def _tags(acquisition: int, block: Any) -> dict[str, Any]:
    return {"kind": "tags", "acquisition": acquisition, **block_summary(block)}


def block_summary(block: Any) -> dict[str, Any]:
    """What identifies a block bit by bit."""
    crc = zlib.crc32(block.channels.tobytes(), zlib.crc32(block.times_ps.tobytes()))
    return {"begin_ps": int(block.begin_ps), "end_ps": int(block.end_ps), "tags": len(block), "crc": crc}


def _replaced(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, *arguments)` in the place of a function."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **named: around(original, *arguments, **named))


def _connecting(place: int) -> None:
    """Between a question and its answer, while the instruments are started."""
    from labctl.instruments.link import Link

    def receive(original: Any, link: Any, *arguments: Any, **named: Any) -> Any:
        if link.instrument == CONNECTING[place]:
            TRAP.at("connecting", place)
        return original(link, *arguments, **named)

    _replaced(Link, "receive", receive)


def _moving(place: int) -> None:
    """Between the command of a move and its answer, which comes when the move is over."""
    from labctl.instruments.link import Link

    def receive(original: Any, link: Any, command: bytes = b"", **named: Any) -> Any:
        if b"ma" in command and TRAP.point >= 2:
            TRAP.at("moving")
        return original(link, command, **named)

    _replaced(Link, "receive", receive)


def _paused(place: int) -> None:
    """In the dark, between two looks at what is asked; the experiment itself asks for the pause."""
    from labctl.runs.supervision import Supervisor

    def rest(original: Any, supervisor: Any) -> None:
        original(supervisor)
        TRAP.at("paused")

    _replaced(Supervisor, "_rest", rest)


def _writing(place: int) -> None:
    """Before, in the middle of, and after a `write()` of the journal, in the writer's thread."""

    def write(original: Any, fd: int, data: Any) -> int:
        if TRAP.point < 2 or not _is_journal(fd):
            return int(original(fd, data))
        if place == 0 and len(data) > 1:
            done = int(original(fd, memoryview(data)[: len(data) // 2]))
            TRAP.at("writing", 0)
            return done
        if place == 1:
            TRAP.at("writing", 1)
        done = int(original(fd, data))
        if place == 2:
            TRAP.at("writing", 2)
        return done

    _replaced(os, "write", write)


def _is_journal(fd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{fd}").endswith("run.journal")


def _finalising(place: int) -> None:
    """In the middle of the HDF5 file, before it gets its name, and before the journal is dropped."""
    import h5py

    def create_dataset(original: Any, *arguments: Any, **named: Any) -> Any:
        if TRAP.leaving:  # before that it is a codec of the tags
            TRAP.at("finalising", 0)
        return original(*arguments, **named)

    def replace(original: Any, source: Any, target: Any) -> None:
        if Path(target).name == "run.h5":
            TRAP.at("finalising", 1)
        original(source, target)

    def unlink(original: Any, path: Any, **named: Any) -> None:
        if Path(path).name == "run.journal":
            TRAP.at("finalising", 2)
        original(path, **named)

    _replaced(h5py.Group, "create_dataset", create_dataset)
    _replaced(os, "replace", replace)
    _replaced(os, "unlink", unlink)


def _shutting_down(place: int) -> None:
    """Before the light goes off, while it goes off, in safe(), and while the ports are closed."""
    from labctl.instruments.base import LabInstrument
    from labctl.instruments.link import Link

    def receive(original: Any, link: Any, *arguments: Any, **named: Any) -> Any:
        if TRAP.leaving:
            TRAP.at("shutting_down", 1)
        return original(link, *arguments, **named)

    def attempt_safe(original: Any, *arguments: Any, **named: Any) -> Any:
        if TRAP.leaving:
            TRAP.at("shutting_down", 2)
        return original(*arguments, **named)

    def close(original: Any, link: Any) -> None:
        if TRAP.leaving:
            TRAP.at("shutting_down", 3)
        original(link)

    _replaced(Link, "receive", receive)
    _replaced(LabInstrument, "attempt_safe", attempt_safe)
    _replaced(Link, "close", close)


_SETTERS: dict[str, Callable[[int], None]] = {
    "connecting": _connecting,
    "moving": _moving,
    "acquiring": lambda place: None,
    "paused": _paused,
    "writing": _writing,
    "finalising": _finalising,
    "shutting_down": _shutting_down,
}

if __name__ == "__main__":
    main()
