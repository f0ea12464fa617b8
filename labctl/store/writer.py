"""The writing end of a run: every method appends one record to the journal, `finish` makes the run file."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from labctl.timetags.block import TagBlock

from .contents import ROW_COLUMNS
from .errors import StoreError
from .finish import complete, fold_resumable
from .folder import JOURNAL, FolderLock, find_run, make_folder, sync_folder
from .journal import Journal, Kind
from .nexus import RESERVED
from .provenance import machine_header
from .tags import TagEncoder

SCHEMA_VERSION = 1
STATUSES = ("success", "abort", "fail")
Value = float | int | str | bool | np.generic
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class RunWriter:
    """Writes one run. Safe to call from several threads; a tag block must not be changed after it was given.

    Leaving it as a context manager without `finish` keeps the journal; `finish_journal` completes the run.
    Every method raises StoreError once the disk has refused a record.
    """

    def __init__(self, lock: FolderLock, journal: Journal, tags: TagEncoder, acquisitions: int = 0) -> None:
        """Use `create` or `resume`."""
        self.directory = lock.folder
        self._lock = lock
        self._journal = journal
        self._tags = tags
        self._acquisitions = acquisitions
        self._numbering = threading.Lock()
        self._ended = False

    @classmethod
    def create(
        cls, root: Path | str, experiment: str, header: Mapping[str, Any], **journal_options: Any
    ) -> RunWriter:
        """Start a run in a new folder under `root`.

        header: what the run was told (config and bench text, `parameters`, `seed`, `twin_id`, `default_plot`
        = {"sweep", "axis", "signal", "errors"}); what the machine knows (versions, commit, time) is added.
        journal_options: `sync_period_s`, `backlog_limit` of `Journal`.
        Raises ValueError for an unusable experiment name or `default_plot`.
        """
        _check_default_plot(header.get("default_plot"))
        now = datetime.now(UTC)
        directory = make_folder(Path(root), experiment, now.astimezone())
        lock = FolderLock(directory)
        writer = cls(lock, Journal(directory / JOURNAL, **journal_options), TagEncoder())
        told = {**header, "schema_version": SCHEMA_VERSION}
        writer._append(Kind.HEADER, {**told, **machine_header(experiment, now)})
        writer.flush(durable=True)
        sync_folder(directory)
        return writer

    @classmethod
    def resume(cls, directory: Path | str, **journal_options: Any) -> RunWriter:
        """Go on with a run whose process died; `open_run` tells what it has.

        Raises StoreError when the run is alive, has ended or its journal is damaged; RunNotFound.
        """
        folder = find_run(Path(directory))
        lock = FolderLock(folder)
        try:
            contents, tags, end = fold_resumable(folder)
        except StoreError:
            lock.release()
            raise
        journal = Journal(folder / JOURNAL, end=end, **journal_options)
        return cls(lock, journal, TagEncoder(tags.last_tags()), len(contents.acquisitions))

    @property
    def acknowledged(self) -> int:
        """Number of records that survive the death of this process."""
        return self._journal.acknowledged

    @property
    def durable(self) -> int:
        """Number of records that survive a power cut."""
        return self._journal.durable

    @property
    def backlog_bytes(self) -> int:
        """What waits in memory for the disk."""
        return self._journal.backlog_bytes

    def event(self, kind: str, bench_time_s: float, **fields: Any) -> int:
        """Something that happened; returns the record's number (safe once `acknowledged` exceeds it)."""
        return self._append(Kind.EVENT, {**fields, "kind": kind, "bench_time_s": bench_time_s})

    def log(self, level: str, message: str, bench_time_s: float) -> int:
        """A line of the run's log."""
        return self._append(Kind.LOG, {"level": level, "message": message, "bench_time_s": bench_time_s})

    def row(
        self,
        sweep: str,
        index: int,
        attempt: int,
        values: Mapping[str, Value],
        units: Mapping[str, str],
        bench_time_s: float,
    ) -> int:
        """A committed point.

        values: scalars by name; a name keeps its unit through the sweep.
        Raises ValueError or TypeError for names or values that the run file cannot hold.
        """
        _check_name(sweep, RESERVED)
        for name in values:
            _check_name(name, ROW_COLUMNS)
        return self._append(
            Kind.ROW,
            {
                "sweep": sweep,
                "index": _plain("index", int(index)),
                "attempt": _plain("attempt", int(attempt)),
                "bench_time_s": float(bench_time_s),
                "values": {name: _plain(name, value) for name, value in values.items()},
                "units": dict(units),
            },
        )

    def begin_acquisition(
        self, channels: Mapping[int, str], sweep: str, index: int, bench_time_s: float, attempt: int = 0
    ) -> int:
        """Start a stretch of counting; returns its number, for `tags` and `end_acquisition`."""
        _check_name(sweep)
        header = {"sweep": sweep, "index": int(index), "attempt": int(attempt), "bench_time_s": bench_time_s}
        header["channels"] = {str(int(channel)): name for channel, name in channels.items()}
        with self._numbering:
            number = self._acquisitions
            self._append(Kind.ACQUISITION_BEGIN, {**header, "acquisition": number})
            self._acquisitions += 1
        return number

    def tags(self, acquisition: int, block: TagBlock) -> int:
        """The next tags of an acquisition. Raises ValueError for one that was not begun."""
        self._check_acquisition(acquisition)
        size = block.times_ps.nbytes + block.channels.nbytes + 1024
        return self._journal.append_encoded(Kind.TAGS, lambda: self._tags.encode(acquisition, block), size)

    def end_acquisition(self, acquisition: int, live_time_ps: int) -> int:
        """Declare the live time of an acquisition. Raises ValueError for one that was not begun."""
        self._check_acquisition(acquisition)
        if not 0 <= live_time_ps < 2**63:
            raise ValueError(f"live time {live_time_ps} ps of acquisition {acquisition}: give 0..2**63-1 ps")
        return self._append(
            Kind.ACQUISITION_END, {"acquisition": int(acquisition), "live_time_ps": int(live_time_ps)}
        )

    def snapshot(self, label: str, snapshot: Mapping[str, Any]) -> int:
        """The state of the instruments ("before", "after"); a later one with the same label replaces it."""
        _check_name(label)
        return self._append(Kind.SNAPSHOT, {"label": label, "snapshot": dict(snapshot)})

    def twin(self, truth: Mapping[str, Any]) -> int:
        """The hidden truth of the twin."""
        return self._append(Kind.TWIN, {"twin": dict(truth)})

    def flush(self, *, durable: bool = False) -> None:
        """Wait until everything is acknowledged, or durable."""
        self._journal.flush(durable=durable)

    def finish(self, status: str, reason: str = "") -> Path:
        """End the run and make its file; returns the path of `run.h5`.

        status: "success", "abort" or "fail". After a StoreError (a full disk) the journal is whole: make room
        and call again, or call `finish_journal(directory)` in another process.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r}: one of {', '.join(STATUSES)}")
        if not self._ended:
            self._journal.flush()
            self._append(Kind.END, {"status": status, "reason": reason})
            self._ended = True
        self._journal.flush(durable=True)
        self._journal.close()
        path = complete(self.directory)
        self._lock.release()
        return path

    def close(self) -> None:
        """Let go of the run without finishing it; idempotent."""
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_acquisition(self, number: int) -> None:
        if not 0 <= number < self._acquisitions:
            raise ValueError(f"acquisition {number} of {self.directory} was not begun: begin_acquisition")

    def _append(self, kind: Kind, header: Mapping[str, Any]) -> int:
        return self._journal.append(kind, {**header, "wall_time_s": time.time()})


def _check_default_plot(plot: Any) -> None:
    if plot and not (isinstance(plot, Mapping) and {"sweep", "axis", "signal"} <= plot.keys()):
        raise ValueError(f"default_plot {plot!r}: give sweep, axis and signal, and errors if there are any")


def _check_name(name: str, reserved: tuple[str, ...] = ()) -> None:
    if not _NAME.fullmatch(name) or name in reserved:
        taken = f"; taken are {', '.join(reserved)}" if reserved else ""
        raise ValueError(f"name {name!r}: use letters, digits and _, beginning with a letter{taken}")


def _plain(name: str, value: Any) -> float | int | str:
    plain = value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
    if not isinstance(plain, float | int | str):
        raise TypeError(f"value {name!r} is {type(value).__name__}; a row holds numbers, booleans and text")
    if isinstance(plain, int) and not -(2**63) <= plain < 2**63:
        raise ValueError(f"value {name!r} = {plain} has more than 64 bits; record it as a float or as text")
    if isinstance(plain, str) and re.search("[\0\ud800-\udfff]", plain):
        raise ValueError(f"value {name!r}: HDF5 text holds no NUL and no half characters; remove them")
    return plain
