"""The page of memory that a bench process and its guardian share: beats one way, notices the other.

A store into it costs less than a microsecond and never waits. It is a file in memory where the system has
such a folder, because a page of a file on disk can be held up while it is being written back.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.bench.locks import runtime_folder

_MEMORY_FOLDER = Path("/dev/shm")
_SIZE = 4096
# native sizes, because only they are written in one piece, and a promise must never be seen half written
_BEAT = struct.Struct("dQ")
_TICK = struct.Struct("dQ")
_BEAT_AT, _TICK_AT, _WHAT_AT, _NOTICE_AT = 0, 64, 128, 256
_WHAT_BYTES, _NOTICE_BYTES = 128, 1024


@dataclass(frozen=True)
class Beat:
    """The last beat: its number, when the next one is due (`time.monotonic`, inf: none is), during what."""

    number: int
    due_s: float
    what: str


class Page:
    """The shared page. One process writes beats, the other ticks and notices."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self._number = 0

    @classmethod
    def create(cls) -> Page:
        """A new page, at rest."""
        in_memory = os.access(_MEMORY_FOLDER, os.W_OK)
        folder = _MEMORY_FOLDER if in_memory else runtime_folder()
        descriptor, name = tempfile.mkstemp(prefix="labctl-heart-", dir=folder)
        os.truncate(descriptor, _SIZE)
        os.close(descriptor)
        page = cls(Path(name))
        page.beat(float("inf"))
        return page

    def beat(self, due_s: float) -> None:
        """Write a beat, the next of which is due at `due_s` (`time.monotonic`)."""
        self._number += 1
        _BEAT.pack_into(self._memory, _BEAT_AT, due_s, self._number)

    def say_what(self, what: str) -> None:
        """Write what the engine is doing, for the guardian to tell."""
        self._put_text(_WHAT_AT, _WHAT_BYTES, what)

    def read_beat(self) -> Beat:
        """The last beat."""
        due_s, number = _BEAT.unpack_from(self._memory, _BEAT_AT)
        return Beat(number, due_s, self._text(_WHAT_AT, _WHAT_BYTES))

    def tick(self, now_s: float, ready: bool) -> None:
        """Write that the guardian looked at `now_s`, and whether it is ready."""
        _TICK.pack_into(self._memory, _TICK_AT, now_s, int(ready))

    def read_tick(self) -> tuple[float, bool]:
        """When the guardian last looked (0: never), and whether it is ready."""
        at_s, ready = _TICK.unpack_from(self._memory, _TICK_AT)
        return at_s, bool(ready)

    def put_notice(self, text: str) -> None:
        """Leave a notice for the engine, instead of the last one."""
        self._put_text(_NOTICE_AT, _NOTICE_BYTES, text)

    def take_notice(self) -> str:
        """The notice, once; empty if there is none."""
        if not self._memory[_NOTICE_AT]:
            return ""
        text = self._text(_NOTICE_AT, _NOTICE_BYTES)
        self._memory[_NOTICE_AT] = 0
        return text

    def forget_name(self) -> None:
        """Remove the file; whoever has the page keeps it."""
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Give the page back and remove its file. Idempotent."""
        self.forget_name()
        self._memory.close()

    def _put_text(self, at: int, size: int, text: str) -> None:
        data = text.encode()[: size - 1]
        # the first byte says that there is a text, so it comes last
        self._memory[at + 1 : at + size] = data[1:].ljust(size - 1, b"\0")
        self._memory[at] = data[0] if data else 0

    def _text(self, at: int, size: int) -> str:
        return self._memory[at : at + size].partition(b"\0")[0].decode(errors="replace")
