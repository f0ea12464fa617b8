"""The writing end of a run: every method appends one record to the journal, `finish` makes the run file."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any

from labctl.timetags.block import TagBlock

from . import disk
from .checks import (
    Value,
    check_columns,
    check_default_plot,
    check_monitor_name,
    check_name,
    cleaned,
    plain_integer,
    plain_values,
)
from .errors import StoreError
from .finish import complete
from .folder import JOURNAL, RUN_FILE, FolderLock, find_run, make_folder
from .journal import Journal, write_failure
from .nexus import RESERVED
from .nexus_read import load_run
from .provenance import machine_header
from .records import JournalEnd, Kind, clean, to_json
from .reserve import LOW_BYTES, RESERVE_BYTES, Reserve
from .resume import reopen
from .seal import Sealer
from .tags import TagEncoder
from .unfold import unfold

SCHEMA_VERSION = 2
STATUSES = ("success", "abort", "fail")


class RunWriter:
    """Writes one run. Safe to call from several threads; a tag block must not be changed after it was given.

    Leaving it as a context manager without `finish` keeps the journal; `finish_journal` completes the run.
    Every method raises StoreError once the disk has refused a record.
    """

    def __init__(
        self,
        lock: FolderLock,
        end: JournalEnd | None = None,
        encoder: TagEncoder | None = None,
        blocks: Sequence[int] = (),
        *,
        reserve_bytes: int = RESERVE_BYTES,
        low_bytes: int = LOW_BYTES,
        **journal_options: Any,
    ) -> None:
        """Use `create`, `resume` or `extend`. blocks: number of blocks of each acquisition begun before."""
        self.directory = lock.folder
        self._lock = lock
        self._sealer = Sealer()
        self._reserve = Reserve(lock.folder, reserve_bytes, low_bytes)
        self._tags = encoder or TagEncoder()
        self._blocks = list(blocks)
        self._numbering = threading.Lock()
        self._ended = False
        self._journal = Journal(
            lock.folder / JOURNAL,
            end=end,
            make_room=self._reserve.release,
            on_full_segment=self._sealer.seal,
            **journal_options,
        )

    @classmethod
    def create(
        cls, root: Path | str, experiment: str, header: Mapping[str, Any], **journal_options: Any
    ) -> RunWriter:
        """Start a run in a new folder under `root`.

        header: what the run was told (config and bench text, `parameters`, `seed`, `twin_id`, `default_plot`
        = {"sweep", "axis", "signal", "errors"}); what the machine knows (versions, commit, time) is added.
        journal_options: `sync_period_s`, `backlog_limit`, `patience_s`, `segment_limit` of `Journal` (a
        segment of 1 GB is sealed into a tag file), `reserve_bytes` kept free for the end of the run, and
        `low_bytes`, below which the disk is low.
        Raises ValueError for an unusable experiment name or `default_plot`, StoreError when nothing can be
        written under `root`.
        """
        check_default_plot(header.get("default_plot"))
        now = datetime.now(UTC)
        directory = make_folder(Path(root), experiment, now.astimezone())
        lock = FolderLock(directory)
        try:
            writer = cls(lock, **journal_options)
        except OSError as error:
            lock.release()
            raise StoreError(write_failure(directory / JOURNAL, error)) from error
        told = {**header, "schema_version": SCHEMA_VERSION}
        writer._append(Kind.HEADER, {**told, **machine_header(experiment, now)})
        writer.flush(durable=True)
        disk.sync_folder(directory)
        return writer

    @classmethod
    def resume(cls, directory: Path | str, **journal_options: Any) -> RunWriter:
        """Go on with a run that crashed, was recovered, aborted or failed; `open_run` tells what it has.

        A run file that is there stays until `finish` has verified a new one. Raises StoreError when the run
        is alive or ended with success; RunNotFound.
        """
        lock = FolderLock(find_run(Path(directory)))
        try:
            return cls._reopen(lock, **journal_options)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def extend(
        cls,
        directory: Path | str,
        root: Path | str,
        *,
        without_rows_of: Sequence[str] = (),
        **journal_options: Any,
    ) -> RunWriter:
        """Start a new run under `root` that begins with all that the successful run in `directory` has.

        without_rows_of: sweeps whose rows are to be committed anew. That run stays as it is; the new one
        names it in its header as `extends`.
        Raises StoreError when it did not end with success; RunNotFound.
        """
        old = find_run(Path(directory))
        contents = load_run(old / RUN_FILE) if not (old / JOURNAL).exists() else None
        if contents is None or contents.status != "success":
            raise StoreError(f"{old}: only a run that ended with success can be extended; resume this one")
        now, experiment = datetime.now(UTC), contents.header["experiment"]
        told = {**contents.header, "schema_version": SCHEMA_VERSION, "extends": contents.header["uuid"]}
        header = {**told, **machine_header(experiment, now)}
        lock = FolderLock(make_folder(Path(root), experiment, now.astimezone()))
        try:
            new = lock.folder / f"{JOURNAL}.tmp"
            unfold(old / RUN_FILE, new, header, keep_sealed=False, without_rows_of=without_rows_of)
            disk.rename(new, lock.folder / JOURNAL)
            disk.sync_folder(lock.folder)
            return cls._reopen(lock, **journal_options)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _reopen(cls, lock: FolderLock, **journal_options: Any) -> RunWriter:
        contents, tags, end = reopen(lock.folder)
        encoder = TagEncoder(len(tags.places), tags.last_tags(), tags.channels)
        blocks = [0] * len(contents.acquisitions)
        for acquisition in contents.blocks.acquisition:
            blocks[acquisition] += 1
        return cls(lock, end, encoder, blocks, **journal_options)

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

    @property
    def backlog_full(self) -> bool:
        """True when so much waits for the disk that the run should pause until less does."""
        return self._journal.backlog_full

    @property
    def disk_low(self) -> bool:
        """True when the disk is nearly full, or the reserve for the end of the run is in use."""
        return self._reserve.low

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
        check_name(sweep, RESERVED)
        check_columns(tuple(values))
        row = {
            "index": plain_integer("index", index),
            "attempt": plain_integer("attempt", attempt),
            "bench_time_s": float(bench_time_s),
            "wall_time_s": time.time(),
            "values": plain_values(values),
        }
        text = _row_head(sweep, tuple(units.items())) + to_json(row)[1:]
        self._reserve.count_rows(len(text))
        return self._journal.append_text(Kind.ROW, text)

    def begin_acquisition(
        self,
        channels: Mapping[int, str],
        sweep: str,
        index: int,
        bench_time_s: float,
        attempt: int = 0,
        part: int = 0,
    ) -> int:
        """Start a stretch of counting; returns its number, for `tags` and `end_acquisition`.

        part: which of the acquisitions of its point (or label) it is.
        """
        check_name(sweep)
        header = {
            "sweep": sweep,
            "index": int(index),
            "attempt": int(attempt),
            "part": int(part),
            "bench_time_s": bench_time_s,
            "channels": {str(int(channel)): name for channel, name in channels.items()},
        }
        with self._numbering:
            number = len(self._blocks)
            self._append(Kind.ACQUISITION_BEGIN, {**header, "acquisition": number})
            self._blocks.append(0)
        return number

    def tags(self, acquisition: int, block: TagBlock) -> int:
        """The next tags of an acquisition. Raises ValueError for one that was not begun."""
        self._check_acquisition(acquisition)
        size = block.times_ps.nbytes + block.channels.nbytes + 1024
        encode = partial(self._tags.encode, acquisition, block)
        with self._numbering:
            number = self._journal.append_encoded(Kind.TAGS, encode, size)
            self._blocks[acquisition] += 1
        return number

    def end_acquisition(self, acquisition: int, live_time_ps: int) -> int:
        """Declare the live time of an acquisition. Raises ValueError for one that was not begun."""
        self._check_acquisition(acquisition)
        if not 0 <= live_time_ps < 2**63:
            raise ValueError(f"live time {live_time_ps} ps of acquisition {acquisition}: give 0..2**63-1 ps")
        end = {"acquisition": int(acquisition), "live_time_ps": int(live_time_ps)}
        return self._append(Kind.ACQUISITION_END, {**end, "blocks": self._blocks[acquisition]})

    def discard(self, number: int, reason: str) -> int:
        """Declare that an acquisition does not count; it is kept, and `reason` with it.

        Raises ValueError for one that was not begun.
        """
        self._check_acquisition(number)
        why = clean(reason) or "discarded"
        return self._append(Kind.DISCARD, {"acquisition": int(number), "reason": why})

    def memo(self, key: str, value: Any) -> int:
        """Remember a JSON value under `key`; a later one with the same key replaces it."""
        return self._append(Kind.MEMO, {"key": key, "value": value})

    def audit(self, instrument: str, parameter: str, value: Any, bench_time_s: float) -> None:
        """A parameter was set; written with the next record, or within some ms."""
        names = _names(instrument, parameter)
        times = f"{_number(bench_time_s)},{time.time()!r}"
        self._journal.note(Kind.AUDIT, f"[{times},{names},{_number(value)}]")

    def monitor(self, name: str, value: float, unit: str, bench_time_s: float) -> None:
        """A reading of a slow quantity; written like `audit`. Raises ValueError for an unusable name."""
        check_monitor_name(name)
        self._journal.note(Kind.MONITOR, to_json((name, float(bench_time_s), float(value), cleaned(unit))))

    def snapshot(self, label: str, snapshot: Mapping[str, Any]) -> int:
        """The state of the instruments ("before", "after"); a later one with the same label replaces it."""
        check_name(label)
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
        self._sealer.close()
        path = complete(self.directory)
        self._lock.release()
        return path

    def close(self) -> None:
        """Let go of the run without finishing it; idempotent."""
        self._journal.close()
        self._sealer.close()
        self._reserve.release()
        self._lock.release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_acquisition(self, number: int) -> None:
        if not 0 <= number < len(self._blocks):
            raise ValueError(f"acquisition {number} of {self.directory} was not begun: begin_acquisition")

    def _append(self, kind: Kind, header: Mapping[str, Any]) -> int:
        return self._journal.append(kind, {**header, "wall_time_s": time.time()})


@lru_cache(maxsize=1024)
def _names(*names: str) -> str:
    """Names as elements of a JSON list."""
    return ",".join(to_json(clean(name)) for name in names)


def _number(value: Any) -> str:
    """The JSON of a value that nearly always is an ordinary number."""
    return repr(value) if type(value) is float and value - value == 0 else to_json(value)


@lru_cache(maxsize=256)
def _row_head(sweep: str, units: tuple[tuple[str, str], ...]) -> str:
    """What all rows of a sweep have in common, as the beginning of a JSON object."""
    return to_json({"sweep": sweep, "units": dict(units)})[:-1] + ","
