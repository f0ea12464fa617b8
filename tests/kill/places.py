"""The places in a run where the trap may be set, put into the code from outside, phase by phase."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kill.trap import TRAP

VIEWING = ("start", "advance", "points", "finish")
CONNECTING = ("vis_rotator", "delay_generator", "cw_laser")


def replaced(owner: Any, name: str, around: Callable[..., Any]) -> None:
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

    replaced(Link, "receive", receive)


def _moving(place: int) -> None:
    """Between the command of a move and its answer, which comes when the move is over."""
    from labctl.instruments.link import Link

    def receive(original: Any, link: Any, command: bytes = b"", **named: Any) -> Any:
        if b"ma" in command and TRAP.point >= 2:
            TRAP.at("moving")
        return original(link, command, **named)

    replaced(Link, "receive", receive)


def _paused(place: int) -> None:
    """In the dark, between two looks at what is asked; the experiment itself asks for the pause."""
    from labctl.runs.supervision import Supervisor

    def rest(original: Any, supervisor: Any) -> None:
        original(supervisor)
        TRAP.at("paused")

    replaced(Supervisor, "_rest", rest)


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

    replaced(os, "write", write)


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

    replaced(h5py.Group, "create_dataset", create_dataset)
    replaced(os, "replace", replace)
    replaced(os, "unlink", unlink)


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

    replaced(Link, "receive", receive)
    replaced(LabInstrument, "attempt_safe", attempt_safe)
    replaced(Link, "close", close)


def _viewing(place: int) -> None:
    """In what the progress bar is told."""
    from labctl.runs.progress import Silent

    def tell(original: Any, *arguments: Any, **named: Any) -> None:
        TRAP.at("viewing", place)
        original(*arguments, **named)

    replaced(Silent, VIEWING[place], tell)


SETTERS: dict[str, Callable[[int], None]] = {
    "connecting": _connecting,
    "moving": _moving,
    "acquiring": lambda place: None,
    "paused": _paused,
    "writing": _writing,
    "finalising": _finalising,
    "shutting_down": _shutting_down,
    "viewing": _viewing,
}
