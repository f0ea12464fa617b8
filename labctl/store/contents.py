"""Everything a run holds except its tags, folded from the journal's records in one pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import StoreError
from .records import JournalEnd, Kind, Record, read_journal
from .sources import JournalTags
from .tags import BlockTable

ROW_COLUMNS = ("index", "attempt", "time", "wall_time")


@dataclass(frozen=True)
class Acquisition:
    """One stretch of counting.

    channels: name of each tagger channel. [begin_ps, end_ps) spans its blocks, both 0 when there are none.
    live_time_ps: as declared at its end; the sum over its blocks if it was cut (not `ended`) or lost blocks.
    part: which of the acquisitions of its point or label. discarded: why it does not count, or "".
    """

    id: int
    sweep: str
    index: int
    attempt: int
    begin_ps: int
    end_ps: int
    live_time_ps: int
    channels: dict[int, str]
    part: int = 0
    discarded: str = ""
    ended: bool = True


@dataclass(frozen=True)
class AuditEntry:
    """One parameter that was set. `value` is a number, a text, or what JSON makes of anything else."""

    bench_time_s: float
    wall_time_s: float
    instrument: str
    parameter: str
    value: Any


@dataclass
class Monitor:
    """Readings of a slow quantity: bench times in s and values, both float64[n], and the unit."""

    times_s: NDArray[np.float64]
    values: NDArray[np.float64]
    unit: str


@dataclass
class SweepTable:
    """Rows as taken: one array per column; `units` of those that have one."""

    columns: dict[str, NDArray[Any]]
    units: dict[str, str]


@dataclass
class RunContents:
    """A run without its tags. `status` is "" while there is no end record; `damage` tells what is spoilt."""

    header: dict[str, Any]
    sweeps: dict[str, SweepTable] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    twin: dict[str, Any] | None = None
    memos: dict[str, Any] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    monitors: dict[str, Monitor] = field(default_factory=dict)
    acquisitions: list[Acquisition] = field(default_factory=list)
    blocks: BlockTable = field(default_factory=BlockTable)
    status: str = ""
    reason: str = ""
    end_time: str = ""
    damage: tuple[str, ...] = ()


class _Rows:
    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in ROW_COLUMNS}
        self.units: dict[str, str] = {"time": "s", "wall_time": "s"}
        self.count = 0

    def add(self, header: dict[str, Any]) -> None:
        fixed = (header["index"], header["attempt"], header["bench_time_s"], header["wall_time_s"])
        for name, value in (*zip(ROW_COLUMNS, fixed, strict=True), *header["values"].items()):
            column = self.columns.setdefault(name, [])
            column.extend([None] * (self.count - len(column)))
            column.append(value)
        self.units.update(header["units"])
        self.count += 1

    def table(self) -> SweepTable:
        padded = {name: column + [None] * (self.count - len(column)) for name, column in self.columns.items()}
        return SweepTable({name: _as_array(column) for name, column in padded.items()}, self.units)


def _as_array(values: list[Any]) -> NDArray[Any]:
    """The narrowest of bool, int64, float64 and text that holds all; a missing value is NaN or ""."""
    kinds = {type(value) for value in values}
    if str in kinds:
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    if kinds == {bool}:
        return np.array(values, dtype=bool)
    if kinds == {int}:
        return np.array(values, dtype=np.int64)
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)


class _Fold:
    def __init__(self, contents: RunContents, tags: JournalTags) -> None:
        self.contents = contents
        self.tags = tags
        self.rows: dict[str, _Rows] = {}
        self.readings: dict[str, list[tuple[float, float]]] = {}
        self.units: dict[str, str] = {}
        self.acquisitions: dict[int, Acquisition] = {}
        self.spans_ps: dict[int, tuple[int, int]] = {}
        self.counted_ps: dict[int, int] = {}
        self.block_counts: dict[int, int] = {}
        self.ends: dict[int, dict[str, Any]] = {}
        self.last_wall_s = 0.0

    def take(self, record: Record) -> None:
        header, contents = record.header, self.contents
        self.last_wall_s = header.get("wall_time_s", self.last_wall_s)
        contents.status = contents.reason = ""  # a record behind the end: the run went on
        match record.kind:
            case Kind.EVENT:
                contents.events.append(header)
            case Kind.LOG:
                contents.log.append(header)
            case Kind.ROW:
                self.rows.setdefault(header["sweep"], _Rows()).add(header)
            case Kind.ACQUISITION_BEGIN:
                self._begin(header)
            case Kind.ACQUISITION_END:
                self.ends[header["acquisition"]] = header
            case Kind.TAGS:
                self._block(record)
            case Kind.SNAPSHOT:
                contents.snapshots[header["label"]] = header["snapshot"]
            case Kind.TWIN:
                contents.twin = header["twin"]
            case Kind.AUDIT:
                contents.audit += [AuditEntry(*entry) for entry in header["entries"]]
            case Kind.MONITOR:
                self._readings(header["entries"])
            case Kind.MEMO:
                contents.memos[header["key"]] = header["value"]
            case Kind.DISCARD:
                self._discard(header)
            case Kind.END:
                contents.status, contents.reason = header["status"], header["reason"]

    def _begin(self, header: dict[str, Any]) -> None:
        number = header["acquisition"]
        channels = {int(channel): name for channel, name in header["channels"].items()}
        self.acquisitions[number] = Acquisition(
            number, header["sweep"], header["index"], header["attempt"], 0, 0, 0, channels, header["part"]
        )

    def _discard(self, header: dict[str, Any]) -> None:
        number = header["acquisition"]
        if number in self.acquisitions:
            self.acquisitions[number] = replace(self.acquisitions[number], discarded=header["reason"])

    def _readings(self, entries: list[tuple[str, float, float, str]]) -> None:
        for name, time_s, value, unit in entries:
            self.readings.setdefault(name, []).append((time_s, value))
            self.units.setdefault(name, unit)

    def _block(self, record: Record) -> None:
        if not self.tags.add(record):
            return
        self.contents.blocks.add(record.header)
        number, begin_ps, end_ps = (record.header[key] for key in ("acquisition", "begin_ps", "end_ps"))
        old_begin_ps, old_end_ps = self.spans_ps.get(number, (begin_ps, end_ps))
        self.spans_ps[number] = min(old_begin_ps, begin_ps), max(old_end_ps, end_ps)
        self.counted_ps[number] = self.counted_ps.get(number, 0) + record.header["live_time_ps"]
        self.block_counts[number] = self.block_counts.get(number, 0) + 1

    def finished(self, end: JournalEnd) -> RunContents:
        contents = self.contents
        contents.sweeps = {name: rows.table() for name, rows in self.rows.items()}
        for name, readings in self.readings.items():
            times_s, values = np.array(readings, np.float64).reshape(-1, 2).T
            contents.monitors[name] = Monitor(times_s.copy(), values.copy(), self.units[name])
        contents.acquisitions = [self._acquisition(item) for item in self.acquisitions.values()]
        contents.end_time = datetime.fromtimestamp(self.last_wall_s, UTC).isoformat()
        contents.damage = tuple(str(damage) for damage in end.damages)
        return contents

    def _acquisition(self, item: Acquisition) -> Acquisition:
        begin_ps, end_ps = self.spans_ps.get(item.id, (0, 0))
        # gaps may overlap or reach beyond their block, so the count is only an estimate within bounds
        live_ps = min(max(self.counted_ps.get(item.id, 0), 0), end_ps - begin_ps)
        ended = self.ends.get(item.id)
        if ended and ended["blocks"] == self.block_counts.get(item.id, 0):
            live_ps = ended["live_time_ps"]
        return replace(
            item, begin_ps=begin_ps, end_ps=end_ps, live_time_ps=live_ps, ended=ended is not None
        )


def fold_journal(path: Path) -> tuple[RunContents, JournalTags, JournalEnd]:
    """The contents of a journal, without tag blocks behind a spoilt one (see `repair`).

    Raises StoreError when not even its header is there.
    """
    reader, tags = read_journal(path), JournalTags(path)
    records = iter(reader)
    head = next(records, None)
    if head is None or head.kind is not Kind.HEADER:
        reason = reader.end.reason if head is None else "its first record is spoilt"
        raise StoreError(
            f"{path}: the journal has no header ({reason or 'it is empty'}); nothing can be read without it: "
            "if the run died before its first record, remove its folder"
        )
    fold = _Fold(RunContents(head.header), tags)
    fold.last_wall_s = head.header["wall_time_s"]
    for record in records:
        fold.take(record)
    return fold.finished(reader.end), tags, reader.end
