"""What an interrupted run had reached, for the run that goes on with it.

An experiment is resumed by running its code again: committed points are passed over, acquisitions that were
complete are replayed from the record, one that was cut off is replayed and completed, and what was decided or
measured once is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from labctl.store import Acquisition, RunData
from labctl.timetags import TagBlock

TIME_BASE = "time_base"
"""The event that tells at which bench time, `zero_s`, the time of the tags had its zero."""

Place = tuple[str, int, int, int]
"""Sweep or label, index, attempt, and which acquisition of that point."""


@dataclass
class Past:
    """Empty for a new run."""

    rows: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    attempts: dict[tuple[str, int], int] = field(default_factory=dict)
    memos: dict[str, Any] = field(default_factory=dict)
    acquisitions: dict[Place, Acquisition] = field(default_factory=dict)
    complete: frozenset[int] = frozenset()
    data: RunData | None = None
    truth: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: RunData, *, extend: str = "") -> Past:
        """The past that a run on disk is; the points of the sweep `extend` are to be taken on."""
        kept = {_place(item): item for item in data.acquisitions}
        spoilt = [item for item in data.all_acquisitions if item.discarded]
        attempts: dict[tuple[str, int], int] = {}
        for item in spoilt:
            point = (item.sweep, item.index)
            attempts[point] = max(attempts.get(point, 0), item.attempt + 1)
        return cls(
            rows={place: row for place, row in _rows(data).items() if place[0] != extend},
            attempts=attempts,
            memos=dict(data.memos),
            acquisitions=kept,
            complete=frozenset(item.id for item in kept.values() if item.ended),
            data=data,
            truth=dict((data.twin or {}).get("acquisitions", {})),
        )

    @property
    def end_ps(self) -> int | None:
        """Where the last block of the run ended, in the time of the run."""
        ends = self.data.contents.blocks.end_ps if self.data else []
        return max(ends) if ends else None

    @property
    def epoch(self) -> int:
        """The epoch that all its blocks carry."""
        epochs = self.data.contents.blocks.epoch if self.data else []
        return epochs[-1] if epochs else 0

    @property
    def bench_time_s(self) -> float:
        """Bench time of the last thing that was recorded, be it a tag."""
        if self.data is None:
            return 0.0
        events = [event["bench_time_s"] for event in self.data.events]
        rows = [float(self.data.rows(sweep)["time"][-1]) for sweep in self.data.sweeps]
        zeros = [event["zero_s"] for event in self.data.events if event["kind"] == TIME_BASE]
        tags = [max(zeros) + self.end_ps * 1e-12] if zeros and self.end_ps is not None else []
        return max(events + rows + tags, default=0.0)

    @property
    def acquired_s(self) -> float:
        """Live time that does not have to be taken again."""
        return sum(item.live_time_ps for item in self.acquisitions.values()) * 1e-12

    def blocks(self, acquisition: Acquisition) -> Iterator[TagBlock]:
        """The recorded blocks of an acquisition."""
        assert self.data is not None
        return self.data.tag_blocks(acquisition)


def _place(item: Acquisition) -> Place:
    return item.sweep, item.index, item.attempt, item.part


def _rows(data: RunData) -> dict[tuple[str, int], dict[str, Any]]:
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for sweep in data.sweeps:
        columns = {name: values.tolist() for name, values in data.rows(sweep).items()}
        for position, index in enumerate(columns["index"]):
            rows[sweep, index] = {name: values[position] for name, values in columns.items()}
    return rows
