"""What led to a point: every set, event and acquisition since the point before it, and the state it found.

All comes from the run's own records: the audit trail of the drivers, the events, the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labctl.timetags import Counts

from .contents import ROW_COLUMNS, Acquisition, AuditEntry
from .errors import StoreError
from .reader import RunData
from .snapshots import Reading, readings

Instant = tuple[float, float]
"""Wall time, and bench time where that did not move, both in s. Wall time leads because it goes on through
a run that was interrupted, while the clock of a bench may begin anew."""
_BEFORE_ALL = (-math.inf, -math.inf)
_EVENT_FIELDS = ("kind", "bench_time_s", "wall_time_s")


@dataclass(frozen=True)
class PointName:
    """A point as people write it: `7`, `delays:7` or `delays:7:0`; None for what they left out."""

    index: int
    sweep: str | None = None
    attempt: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.sweep, self.index, self.attempt) if part is not None)


@dataclass(frozen=True)
class Step:
    """One thing that happened. kind: "set", "event", "acquisition" or "commit".

    bench_time_s is None for an acquisition, which lies between the set before it and the commit.
    """

    kind: str
    bench_time_s: float | None
    what: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """The last value that a parameter was given, and when on the bench clock."""

    instrument: str
    parameter: str
    value: Any
    unit: str
    bench_time_s: float


@dataclass(frozen=True)
class Explanation:
    """A committed point: what happened since the commit before it, and every setting it was taken with."""

    sweep: str
    index: int
    attempt: int
    begin_s: float | None
    steps: list[Step]
    settings: list[Setting]


def parse_point(text: str) -> PointName:
    """`INDEX`, `SWEEP:INDEX` or `SWEEP:INDEX:ATTEMPT`. Raises StoreError for anything else."""
    parts = text.split(":")
    sweep = parts.pop(0) if len(parts) > 1 else None
    if not (1 <= len(parts) <= 2 and all(part.isdigit() for part in parts)) or sweep == "":
        raise StoreError(f"{text!r} is not a point; write INDEX, SWEEP:INDEX or SWEEP:INDEX:ATTEMPT")
    return PointName(int(parts[0]), sweep, int(parts[1]) if len(parts) == 2 else None)


def explain(data: RunData, point: PointName) -> Explanation:
    """What led to a committed point of a run. Without an attempt, the last one.

    Raises StoreError, naming what there is, when no such point was committed or several sweeps have one.
    """
    row = _find(data, point)
    begin = max((r.at for r in _rows(data) if r.at < row.at), default=_BEFORE_ALL)
    timed = [*_sets(data, begin, row.at), *_events(data, begin, row.at)]
    steps = [step for _, step in sorted(timed, key=lambda item: item[0])]
    steps += [_acquisition(data, acquisition) for acquisition in _acquisitions(data, row)]
    steps.append(Step("commit", row.bench_time_s, "committed", row.shown))
    begin_s = None if begin is _BEFORE_ALL else begin[1]
    return Explanation(row.sweep, row.index, row.attempt, begin_s, steps, _settings(data, row.at))


@dataclass(frozen=True)
class _Row:
    sweep: str
    index: int
    attempt: int
    at: Instant
    values: dict[str, Any]
    units: dict[str, str]

    @property
    def bench_time_s(self) -> float:
        return self.at[1]

    @property
    def shown(self) -> dict[str, Any]:
        return {name: [value, self.units.get(name, "")] for name, value in self.values.items()}


def _rows(data: RunData) -> Iterator[_Row]:
    for sweep in data.sweeps:
        columns, units = data.rows(sweep), data.units(sweep)
        recorded = [name for name in columns if name not in ROW_COLUMNS]
        fixed = zip(*(columns[name].tolist() for name in ROW_COLUMNS), strict=True)
        for number, (index, attempt, bench_s, wall_s) in enumerate(fixed):
            values = {name: _plain(columns[name][number]) for name in recorded}
            yield _Row(sweep, index, attempt, (wall_s, bench_s), values, units)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _find(data: RunData, point: PointName) -> _Row:
    rows = list(_rows(data))
    found = [
        row
        for row in rows
        if row.index == point.index
        and point.sweep in (None, row.sweep)
        and point.attempt in (None, row.attempt)
    ]
    sweeps = sorted({row.sweep for row in found})
    if len(sweeps) > 1:
        choices = ", ".join(f"{sweep}:{point.index}" for sweep in sweeps)
        raise StoreError(f"{data.directory}: several sweeps have a point {point}; write one of {choices}")
    if not found:
        raise StoreError(f"{data.directory}: no point {point} was committed, but {_what_there_is(rows)}")
    return max(found, key=lambda row: (row.attempt, row.at))


def _what_there_is(rows: Iterable[_Row]) -> str:
    indices: dict[str, list[int]] = {}
    for row in rows:
        indices.setdefault(row.sweep, []).append(row.index)
    spans = [f"{sweep}:{min(found)} to {sweep}:{max(found)}" for sweep, found in indices.items()]
    return ", ".join(spans) or "none"


def _trail(data: RunData) -> list[AuditEntry]:
    return sorted(data.audit, key=_instant)


def _instant(entry: AuditEntry) -> Instant:
    return entry.wall_time_s, entry.bench_time_s


def _sets(data: RunData, begin: Instant, end: Instant) -> Iterator[tuple[Instant, Step]]:
    """Every set between two instants, with the value before it: the last set, or the first snapshot."""
    known = readings(data.snapshots.get("before", {}))
    for entry in _trail(data):
        key = entry.instrument, entry.parameter
        before = known.get(key, Reading(None))
        if begin < _instant(entry) <= end:
            fields = {"old": before.value, "new": entry.value, "unit": before.unit}
            yield _instant(entry), Step("set", entry.bench_time_s, ".".join(key), fields)
        known[key] = Reading(entry.value, before.unit)


def _events(data: RunData, begin: Instant, end: Instant) -> Iterator[tuple[Instant, Step]]:
    for event in data.events:
        at = event["wall_time_s"], event["bench_time_s"]
        if begin < at <= end:
            fields = {name: value for name, value in event.items() if name not in _EVENT_FIELDS}
            yield at, Step("event", event["bench_time_s"], event["kind"], fields)


def _acquisitions(data: RunData, row: _Row) -> list[Acquisition]:
    """Those of the point, discarded ones of earlier attempts included."""
    return [
        item
        for item in data.all_acquisitions
        if (item.sweep, item.index) == (row.sweep, row.index) and item.attempt <= row.attempt
    ]


def _acquisition(data: RunData, acquisition: Acquisition) -> Step:
    fields: dict[str, Any] = {
        "attempt": acquisition.attempt,
        "part": acquisition.part,
        "live_time_s": acquisition.live_time_ps * 1e-12,
    }
    if acquisition.discarded:
        return Step("acquisition", None, f"discarded: {acquisition.discarded}", fields)
    counter = Counts(list(acquisition.channels))
    for block in data.tag_blocks(acquisition):
        counter.update(block)
    fields["counts"] = {acquisition.channels[channel]: n for channel, n in counter.counts.items()}
    return Step("acquisition", None, f"acquisition {acquisition.id}", fields)


def _settings(data: RunData, end: Instant) -> list[Setting]:
    before = readings(data.snapshots.get("before", {}))
    last = {(e.instrument, e.parameter): e for e in _trail(data) if _instant(e) <= end}
    return [
        Setting(*key, entry.value, before[key].unit if key in before else "", entry.bench_time_s)
        for key, entry in sorted(last.items())
    ]
