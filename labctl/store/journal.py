"""The append-only journal of a run: CRC-framed records that a crash can only shorten, never spoil.

A record is `magic | kind | seq | length | crc32 | payload`, the payload a JSON header followed by raw
bytes. `append` only queues; a writer thread calls `write()` once per record. A record is *acknowledged* when
its `write()` is done (it survives the death of the process) and *durable* after the next `fdatasync` (it
survives a power cut), which comes at most every 200 ms. A bounded backlog makes `append` wait for a
slow disk. When a write fails the file is cut back to its last whole record and the backlog is kept, so that
`flush` can try again after somebody has made room.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StoreError

MAGIC = b"LJ1\n"
_FRAME = struct.Struct("<4sIQQ")  # magic, kind, seq, length of the payload
_CRC = struct.Struct("<I")  # of the frame and the payload
_LENGTH = struct.Struct("<I")  # of the JSON header
_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_fdatasync = getattr(os, "fdatasync", os.fsync)

Buffer = bytes | memoryview
Encode = Callable[[], tuple[Mapping[str, Any], Sequence[Buffer]]]


class Kind(IntEnum):
    """What a record holds."""

    HEADER = 1
    EVENT = 2
    ROW = 3
    TAGS = 4
    LOG = 5
    END = 6
    ACQUISITION_BEGIN = 7
    ACQUISITION_END = 8
    SNAPSHOT = 9
    TWIN = 10


@dataclass(frozen=True)
class Record:
    """One record read back; `data_offset` is where `data` begins in the file."""

    kind: Kind
    seq: int
    header: dict[str, Any]
    data: memoryview
    data_offset: int


@dataclass(frozen=True)
class JournalEnd:
    """Where and why reading stopped, after how many records.

    reason: "" at a clean end, "torn" for an incomplete last record, else what is wrong there.
    """

    offset: int
    reason: str
    records: int = 0

    @property
    def corrupt(self) -> bool:
        """True when bytes follow that are no unfinished record, so something may be left to rescue."""
        return self.reason not in ("", "torn")


def to_json(value: Any) -> str:
    """JSON in plain ASCII; NumPy values as numbers and lists, anything else foreign as its text."""
    return json.dumps(value, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def frame(kind: Kind, seq: int, header: str, buffers: Sequence[Buffer] = ()) -> bytes:
    """The bytes of one record."""
    text = header.encode("ascii")
    payload = b"".join([_LENGTH.pack(len(text)), text, *buffers])
    head = _FRAME.pack(MAGIC, kind, seq, len(payload))
    return b"".join([head, _CRC.pack(zlib.crc32(payload, zlib.crc32(head))), payload])


@dataclass
class _Pending:
    build: Callable[[], bytes]
    backlog: int
    framed: bytes | None = None


class Journal:
    """Writes a new journal, or goes on after the `end` of one; safe to append to from several threads.

    backlog_limit: bytes that may wait for the disk before `append` waits too.
    Raises FileExistsError when a new `path` exists; StoreError from `append` and `flush` once a write failed.
    """

    def __init__(
        self,
        path: Path,
        *,
        end: JournalEnd | None = None,
        sync_period_s: float = 0.2,
        backlog_limit: int = 256 << 20,
    ) -> None:
        new = os.O_CREAT | os.O_EXCL if end is None else 0
        end = end or JournalEnd(0, "")
        self.path = path
        self.appended = self.acknowledged = self.durable = end.records
        self.backlog_bytes = 0
        self._sync_period_s = sync_period_s
        self._backlog_limit = backlog_limit
        self._fd = os.open(path, new | os.O_WRONLY | os.O_APPEND, 0o644)
        self._good_bytes = end.offset
        os.ftruncate(self._fd, self._good_bytes)
        self._queue: deque[_Pending] = deque()
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._durable_wanted = 0
        self._sync_due_s = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"journal {path}", daemon=True)
        self._thread.start()

    def append(self, kind: Kind, header: Mapping[str, Any]) -> int:
        """Queue a record without raw data; `acknowledged` exceeds the number returned once it is safe."""
        text = to_json(header)
        return self._append(lambda seq: frame(kind, seq, text), len(text))

    def append_encoded(self, kind: Kind, encode: Encode, nbytes: int) -> int:
        """Queue a record whose header and raw data `encode` makes in the writer thread, in order.

        nbytes: what the record holds in memory until it is written.
        """

        def build(seq: int) -> bytes:
            header, buffers = encode()
            return frame(kind, seq, to_json(header), buffers)

        return self._append(build, nbytes)

    def flush(self, *, durable: bool = False) -> None:
        """Wait until all that was appended is acknowledged (or durable); tries again after a full disk."""
        with self._changed:
            target = self.appended
            if isinstance(self._error, OSError) and self._error.errno in _ROOM and not self._closing:
                self._error = None
            if durable:
                self._durable_wanted = target
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._error is not None or (self.durable if durable else self.acknowledged) >= target
            )
            self._check()

    def close(self) -> None:
        """Write what can be written and close the file; idempotent. Call `flush` first to learn of errors."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, build: Callable[[int], bytes], nbytes: int) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._error or self.backlog_bytes < self._backlog_limit)
            self._check()
            if self._closing:
                raise StoreError(f"{self.path}: the run is finished, nothing can be added to it")
            seq = self.appended
            self._queue.append(_Pending(lambda: build(seq), nbytes))
            self.backlog_bytes += nbytes
            self.appended += 1
            self._changed.notify_all()
            return seq

    def _check(self) -> None:
        if self._error is not None:
            raise StoreError(write_failure(self.path, self._error)) from self._error

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:  # whatever it is, the run must hear of it
                with self._changed:
                    self._error = error
                    self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """The writer's next step; waits for one, None when it is time to go."""
        with self._changed:
            while True:
                now_s = time.monotonic()
                dirty = self._error is None and self.durable < self.acknowledged
                wanted = self.durable < self._durable_wanted <= self.acknowledged
                if dirty and (wanted or now_s >= self._sync_due_s):
                    return self._sync
                if self._queue and self._error is None:
                    return self._write
                if self._closing:
                    return self._sync if dirty else None
                self._changed.wait(self._sync_due_s - now_s if dirty else None)

    def _write(self) -> None:
        pending = self._queue[0]
        if pending.framed is None:
            pending.framed = pending.build()
        try:
            _write_all(self._fd, pending.framed)
        except OSError:
            os.ftruncate(self._fd, self._good_bytes)
            raise
        self._good_bytes += len(pending.framed)
        with self._changed:
            self._queue.popleft()
            self.backlog_bytes -= pending.backlog
            if self.durable == self.acknowledged:
                self._sync_due_s = time.monotonic() + self._sync_period_s
            self.acknowledged += 1
            self._changed.notify_all()

    def _sync(self) -> None:
        written = self.acknowledged
        try:
            _fdatasync(self._fd)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages, so trying again would prove nothing.
            raise RuntimeError(f"fdatasync failed: {error}") from error
        with self._changed:
            self.durable = written
            self._sync_due_s = time.monotonic() + self._sync_period_s
            self._changed.notify_all()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_failure(path: Path, error: Exception) -> str:
    """One line: which file, why, how much room is left, what to do."""
    free_mb = shutil.disk_usage(path.parent).free / 1e6
    full = isinstance(error, OSError) and error.errno in _ROOM
    advice = "make room, then finish() again, or later" if full else "check the disk, then"
    return (
        f"{path}: cannot be written ({error}); {free_mb:.0f} MB free on its disk. What was acknowledged is "
        f"in the journal: {advice} `labctl recover {path.parent}`"
    )


class JournalReader:
    """Iterates over the records up to the last good one; then `end` says where and why it stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = JournalEnd(0, "")

    def __iter__(self) -> Iterator[Record]:
        with self.path.open("rb") as file:
            seq, offset = 0, 0
            while True:
                found = _read_record(file.read, seq, os.fstat(file.fileno()).st_size - offset, offset)
                if isinstance(found, str):
                    self.end = JournalEnd(offset, found, seq)
                    return
                yield found
                seq, offset = seq + 1, file.tell()


def read_journal(path: Path) -> JournalReader:
    """The records of the journal at `path`, of a live run too: what is written at this moment is read."""
    return JournalReader(path)


def _read_record(read: Callable[[int], bytes], seq: int, left: int, offset: int) -> Record | str:
    """The next record, or the reason why there is none; `left`: bytes to the end of the file."""
    if left == 0:
        return ""
    prefix = _FRAME.size + _CRC.size
    if left < prefix:
        return "torn"
    head, crc = read(_FRAME.size), _CRC.unpack(read(_CRC.size))[0]
    magic, kind, found_seq, length = _FRAME.unpack(head)
    if magic != MAGIC:
        return "no record begins here"
    if length > left - prefix:
        return "torn"
    payload = read(length)
    if zlib.crc32(payload, zlib.crc32(head)) != crc:
        return "wrong checksum"
    if found_seq != seq:
        return f"record {found_seq} where {seq} should be"
    text_end = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
    header = json.loads(payload[_LENGTH.size : text_end])
    return Record(Kind(kind), seq, header, memoryview(payload)[text_end:], offset + prefix + text_end)
