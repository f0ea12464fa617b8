"""What led to a point, told from the run's own records."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from labctl.store import RunData, RunWriter, StoreError, open_run
from labctl.store.explain import PointName, explain, parse_point
from tests.store.helpers import make_block

SNAPSHOT = {"delay": {"delay": {"value": 0.0, "unit": "s"}}, "gate": {"open": {"value": False, "unit": ""}}}


@dataclass(frozen=True)
class Entry:
    bench_time_s: float
    wall_time_s: float
    instrument: str
    parameter: str
    value: Any


@dataclass(frozen=True)
class Run:
    """A run with an audit trail."""

    data: RunData
    audit: list[Entry]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    @property
    def all_acquisitions(self) -> list[Any]:
        return [Taken(**vars(a)) for a in self.data.acquisitions]


@dataclass(frozen=True)
class Taken:
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


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Points 2, 0, 1 of a scan, each 10 s after the one before it; the delay is set 1 s behind its begin."""
    writer = RunWriter.create(tmp_path, "scan", {})
    writer.snapshot("before", SNAPSHOT)
    audit = []
    for place, index in enumerate((2, 0, 1)):
        begin_s = 10.0 * place
        audit.append(Entry(begin_s + 1, time.time(), "delay", "delay", index * 1e-9))
        writer.event("switch", begin_s + 2, instrument="gate", on=True)
        number = writer.begin_acquisition({1: "A", 2: "B", 4: "C", -5: "D"}, "delays", index, begin_s + 3)
        writer.tags(number, make_block(index, 100))
        writer.end_acquisition(number, 5 * 10**12)
        writer.row("delays", index, 0, {"rate": 20.0 + index}, {"rate": "1/s"}, begin_s + 10)
    writer.row("other", 1, 0, {}, {}, 40.0)
    return Run(open_run(writer.finish("success")), audit)


def test_steps_between_two_commits_in_their_order(run: Run) -> None:
    found = explain(run, parse_point("delays:0"))
    assert (found.sweep, found.index, found.attempt, found.begin_s) == ("delays", 0, 0, 10.0)
    assert [(step.kind, step.bench_time_s) for step in found.steps] == [
        ("set", 11.0), ("event", 12.0), ("acquisition", None), ("commit", 20.0)
    ]  # fmt: skip
    setting, event, acquisition, commit = found.steps
    assert setting.what == "delay.delay"
    assert setting.fields == {"old": 2e-9, "new": 0.0, "unit": "s"}
    assert (event.what, event.fields) == ("switch", {"instrument": "gate", "on": True})
    assert sum(acquisition.fields["counts"].values()) == 100
    assert acquisition.fields["live_time_s"] == 5.0
    assert commit.fields == {"rate": [20.0, "1/s"]}


def test_the_first_point_begins_with_the_run(run: Run) -> None:
    found = explain(run, parse_point("2"))
    assert found.begin_s is None
    assert found.steps[0].fields == {"old": 0.0, "new": 2e-9, "unit": "s"}  # the old value is the snapshot's


def test_settings_are_the_last_of_each_parameter_up_to_the_commit(run: Run) -> None:
    gate = Entry(0.5, 0.0, "gate", "open", True)
    found = explain(replace(run, audit=[gate, *run.audit]), parse_point("delays:0"))
    assert [(s.instrument, s.value, s.unit, s.bench_time_s) for s in found.settings] == [
        ("delay", 0.0, "s", 11.0),
        ("gate", True, "", 0.5),
    ]


def test_wall_time_orders_where_the_clock_of_the_bench_began_anew(run: Run) -> None:
    before_s, commit_s = run.data.rows("delays")["wall_time"][:2].tolist()
    middle_s = 0.5 * (before_s + commit_s)
    audit = [Entry(0.1, middle_s, "gate", "open", False), Entry(99.0, before_s - 1, "gate", "open", True)]
    found = explain(replace(run, audit=audit), parse_point("delays:0"))
    assert [step.fields["new"] for step in found.steps if step.kind == "set"] == [False]


def test_points_that_are_not_there_or_not_clear(run: Run) -> None:
    with pytest.raises(StoreError, match=r"several sweeps have a point 1; write one of delays:1, other:1"):
        explain(run, parse_point("1"))
    with pytest.raises(StoreError, match=r"no point delays:7 was committed, but delays:0 to delays:2"):
        explain(run, parse_point("delays:7"))
    with pytest.raises(StoreError, match=r"no point delays:2:1"):
        explain(run, parse_point("delays:2:1"))


@pytest.mark.parametrize(
    ("text", "name"),
    [("7", PointName(7)), ("d:7", PointName(7, "d")), ("d:7:1", PointName(7, "d", 1))],
)
def test_names_of_points(text: str, name: PointName) -> None:
    assert parse_point(text) == name
    assert str(name) == text


@pytest.mark.parametrize("text", ["", "d", ":7", "d:", "d:7:", "d:7:1:2", "d:-1", "7:1:"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(StoreError, match="is not a point; write INDEX"):
        parse_point(text)
