"""The append-only journal of a run: CRC-framed records that a crash can only shorten, never spoil.

A record is *acknowledged* when its `write()` is done (it survives the death of the process) and *durable*
after the next `fdatasync` (it survives a power cut), which comes at most every 200 ms. `append` only queues;
`flush` writes what waits in the thread that calls it, so that a committed point costs no hand-over. What
nobody flushes is written within some ms by the journal's own thread, which also compresses tags and calls
`fdatasync`. Notes (audit entries, monitor readings) are gathered and written many in a record. When a write
fails the file is cut back to its last whole record and the backlog is kept, so that `flush` can try again
after somebody has made room.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from . import disk
from .disk import Buffer
from .errors import StoreError
from .records import JournalEnd, Kind, frame, segment_path, to_json

Encode = Callable[[], tuple[Mapping[str, Any], Sequence[Buffer]]]

_POLL_S = 0.01  # what nobody flushes waits so long at most
_BATCH_BYTES = 4 << 20
_BATCH_RECORDS = 256
_NOTES_IN_A_RECORD = 5000
_NOTE_BYTES = 200
_WORTH_WAKING = 64 << 10


class _Pending:
    """A record that waits; `build` makes its bytes, at once or only when it is its turn."""

    __slots__ = ("backlog", "build", "framed")

    def __init__(
        self, backlog: int, framed: list[Buffer] | None, build: Callable[[], list[Buffer]] | None = None
    ) -> None:
        self.backlog = backlog
        self.framed = framed
        self.build = build

    def parts(self) -> list[Buffer]:
        if self.framed is None:
            assert self.build is not None
            self.framed, self.build = self.build(), None
        return self.framed


class Journal:
    """Writes a new journal, or goes on after the `end` of one; safe to append to from several threads.

    backlog_limit: bytes that may wait for the disk before `append` waits too, for `patience_s` at most.
    segment_limit: size in bytes of a segment before the next is begun; then `on_full_segment` gets its path.
    make_room: called on a full disk; True when it is worth trying once more.
    Raises FileExistsError when a new `path` exists; StoreError from `append` and `flush` once a write failed.
    """

    def __init__(
        self,
        path: Path,
        *,
        end: JournalEnd | None = None,
        sync_period_s: float = 0.2,
        backlog_limit: int = 256 << 20,
        patience_s: float = 10.0,
        segment_limit: int = 1 << 30,
        on_full_segment: Callable[[Path], None] = lambda path: None,
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = path
        self._sync_period_s = sync_period_s
        self._backlog_limit = backlog_limit
        self._patience_s = patience_s
        self._segment_limit = segment_limit
        self._on_full_segment = on_full_segment
        self._make_room = make_room
        self._segment = end.segment if end else 1
        self._good_bytes = end.offset if end else 0
        self.appended = self.acknowledged = self.durable = end.records if end else 0
        self._fd = disk.open_to_append(segment_path(path, self._segment), new=end is None)
        if end is not None:
            disk.cut(self._fd, self._good_bytes)
        self._backlog_bytes = 0
        self._queue: deque[_Pending] = deque()
        self._audit: deque[str] = deque()
        self._monitors: deque[str] = deque()
        self._notes = {Kind.AUDIT: self._audit, Kind.MONITOR: self._monitors}
        self._state = threading.Lock()  # of the queue and the counters
        self._room = threading.Condition(self._state)
        self._waiting = 0  # for room
        self._writing = threading.Lock()  # of the file's end
        self._syncing = threading.Lock()
        self._error: Exception | None = None
        self._sync_failed = False
        self._sync_due_s = 0.0
        self._wake = threading.Event()
        self._asleep = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"journal {path}", daemon=True)
        self._thread.start()

    @property
    def backlog_bytes(self) -> int:
        """What waits in memory for the disk."""
        return self._backlog_bytes + _NOTE_BYTES * (len(self._audit) + len(self._monitors))

    @property
    def backlog_full(self) -> bool:
        """True when half of what may wait waits: time to make no more for a while."""
        return self.backlog_bytes > self._backlog_limit // 2

    def append(self, kind: Kind, header: Mapping[str, Any]) -> int:
        """Queue a record without raw data; `acknowledged` exceeds the number returned once it is safe."""
        return self.append_text(kind, to_json(header))

    def append_text(self, kind: Kind, text: str) -> int:
        """Queue a record whose header is JSON already."""
        self._admit()
        with self._state:
            if self._audit or self._monitors:
                self._queue_notes()
            seq = self.appended
            self._enqueue(_Pending(len(text), frame(kind, seq, text)))
        if self._asleep:
            self._wake.set()
        return seq

    def append_encoded(self, kind: Kind, encode: Encode, nbytes: int) -> int:
        """Queue a record whose header and raw data `encode` makes later, in order, one at a time.

        nbytes: what the record holds in memory until it is written.
        """
        self._admit()
        with self._state:
            if self._audit or self._monitors:
                self._queue_notes()
            seq = self.appended

            def build() -> list[Buffer]:
                header, buffers = encode()
                return frame(kind, seq, to_json(header), buffers)

            self._enqueue(_Pending(nbytes, None, build))
        if self._asleep or nbytes >= _WORTH_WAKING:
            self._wake.set()
        return seq

    def note(self, kind: Kind, entry: str) -> None:
        """Queue an entry (JSON) of a record of AUDIT or MONITOR, written with the next record."""
        if self._error is not None or self._closing:
            self._check()
        self._notes[kind].append(entry)
        if self._asleep:
            self._wake.set()

    def flush(self, *, durable: bool = False) -> None:
        """Write all that was appended (and make it durable); tries again after a full disk."""
        if disk.is_full(self._error) and not self._closing:
            self._error = None
        self._attempt(self._drain)
        if durable and self._error is None and self.durable < self.acknowledged:
            self._attempt(self._sync)
        if self._error is not None:
            self._check()

    def close(self) -> None:
        """Write what can be written and close the file; idempotent. Call `flush` first to learn of errors."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        if self._fd >= 0:
            disk.close(self._fd)
            self._fd = -1

    def _admit(self) -> None:
        if self._error is not None or self._closing:
            self._check()
        if self._backlog_bytes < self._backlog_limit:
            return
        with self._room:
            self._waiting += 1
            self._room.wait_for(
                lambda: self._error or self._backlog_bytes < self._backlog_limit, self._patience_s
            )
            self._waiting -= 1
            self._check()
            if self._backlog_bytes >= self._backlog_limit:
                waiting = f"{self._backlog_bytes / 1e6:.0f} MB wait for it"
                raise StoreError(
                    f"{self.path}: the disk does not keep up, {waiting}; "
                    "pause the run until they are written, or record fewer channels"
                )

    def _check(self) -> None:
        if self._error is not None:
            raise StoreError(write_failure(self.path, self._error)) from self._error
        if self._closing:
            raise StoreError(f"{self.path}: the run is finished, nothing can be added to it")

    def _enqueue(self, pending: _Pending) -> None:
        self._queue.append(pending)
        self._backlog_bytes += pending.backlog
        self.appended += 1

    def _queue_all_notes(self) -> None:
        if self._audit or self._monitors:
            with self._state:
                self._queue_notes()

    def _queue_notes(self) -> None:
        for kind, notes in self._notes.items():
            while notes:
                entries = ",".join([notes.popleft() for _ in range(min(len(notes), _NOTES_IN_A_RECORD))])
                text = f'{{"entries":[{entries}]}}'
                self._enqueue(_Pending(len(text), frame(kind, self.appended, text)))

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # whatever it is, everyone who writes must hear of it
            with self._room:
                self._error = error
                self._room.notify_all()

    def _drain(self) -> None:
        """Write all that waits now; what others append meanwhile may wait for the next time."""
        with self._writing:
            self._queue_all_notes()
            target = self.appended
            while self.acknowledged < target and self._error is None:
                self._write(self._next_batch())
                if self._good_bytes >= self._segment_limit:
                    self._next_segment()

    def _next_batch(self) -> list[_Pending]:
        with self._state:
            waiting = list(islice(self._queue, _BATCH_RECORDS))
        size, batch = 0, []
        for pending in waiting:
            size += sum(map(len, pending.parts()))
            batch.append(pending)
            if size >= _BATCH_BYTES:
                break
        return batch

    def _write(self, batch: list[_Pending]) -> None:
        parts = [part for pending in batch for part in pending.parts()]
        try:
            size = self._write_parts(parts)
        except BaseException:
            disk.cut(self._fd, self._good_bytes)
            raise
        self._good_bytes += size
        with self._state:
            if self.durable == self.acknowledged:
                self._sync_due_s = time.monotonic() + self._sync_period_s
            for pending in batch:
                self._queue.popleft()
                self._backlog_bytes -= pending.backlog
            self.acknowledged += len(batch)
            if self._waiting:
                self._room.notify_all()

    def _write_parts(self, parts: list[Buffer]) -> int:
        try:
            return disk.write(self._fd, parts)
        except OSError as error:
            if not (disk.is_full(error) and self._make_room()):
                raise
            disk.cut(self._fd, self._good_bytes)
            return disk.write(self._fd, parts)

    def _next_segment(self) -> None:
        self._sync()
        full = segment_path(self.path, self._segment)
        with self._syncing:
            try:
                fd = disk.open_to_append(segment_path(self.path, self._segment + 1), new=True)
            except OSError:  # no room for another file: this one may as well grow
                return
            disk.sync_folder(self.path.parent)
            disk.close(self._fd)
            self._fd, self._good_bytes, self._segment = fd, 0, self._segment + 1
        self._on_full_segment(full)

    def _sync(self) -> None:
        with self._syncing:
            written = self.acknowledged
            try:
                disk.sync(self._fd)
            except OSError as error:
                # After a failed sync the kernel may have dropped the pages: trying again would prove nothing.
                self._sync_failed = True
                raise RuntimeError(f"fdatasync failed: {error}") from error
            self._sync_due_s = time.monotonic() + self._sync_period_s
            self.durable = written

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            self._attempt(self._drain)
            if self._dirty() and time.monotonic() >= self._sync_due_s:
                self._attempt(self._sync)
        self._attempt(self._drain)
        if self._dirty():
            self._attempt(self._sync)

    def _dirty(self) -> bool:
        return self.durable < self.acknowledged and not self._sync_failed

    def _pause_s(self) -> float | None:
        """Until when there is nothing to do; None when somebody must wake the thread."""
        self._asleep = True  # first, so that nothing is queued unseen behind the look at the queue
        waiting = self._error is None and (self._queue or self._audit or self._monitors)
        if not waiting and not self._dirty():
            return None
        self._asleep = False
        return _POLL_S


def write_failure(path: Path, error: Exception) -> str:
    """One line: which file, why, how much room is left, what to do."""
    free_mb = shutil.disk_usage(path.parent).free / 1e6
    advice = "make room, then finish() again, or later" if disk.is_full(error) else "check the disk, then"
    return (
        f"{path}: cannot be written ({error}); {free_mb:.0f} MB free on its disk. What was acknowledged is "
        f"in the journal: {advice} `labctl recover {path.parent}`"
    )
