"""What led to a point, told from the run's own records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.store import AuditEntry, RunData, RunWriter, StoreError, open_run
from labctl.store.explain import PointName, explain, parse_point
from tests.store.helpers import CHANNELS, make_block

SNAPSHOT: dict[str, Any] = {
    "delay": {"delay": {"value": 0.0, "unit": "s"}},
    "gate": {"open": {"value": False, "unit": ""}},
}


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    """Points 2, 0, 1 of a scan, each 10 s after the one before it; the first try of point 0 was spoilt."""
    writer = RunWriter.create(tmp_path, "scan", {})
    writer.snapshot("before", SNAPSHOT)
    writer.audit("gate", "open", True, 0.5)
    for place, (index, attempt) in enumerate(((2, 0), (0, 1), (1, 0))):
        begin_s = 10.0 * place
        writer.audit("delay", "delay", index * 1e-9, begin_s + 1)
        writer.event("switch", begin_s + 2, instrument="gate", on=True)
        for number in range(attempt):
            spoilt = writer.begin_acquisition(CHANNELS, "delays", index, begin_s + 3, attempt=number)
            writer.tags(spoilt, make_block(index, 10))
            writer.discard(spoilt, "too bright")
        taken = writer.begin_acquisition(CHANNELS, "delays", index, begin_s + 4, attempt=attempt)
        writer.tags(taken, make_block(index, 100, begin_ps=10**12))
        writer.end_acquisition(taken, 5 * 10**12)
        writer.row("delays", index, attempt, {"rate": 20.0 + index}, {"rate": "1/s"}, begin_s + 10)
    writer.row("other", 1, 0, {}, {}, 40.0)
    return open_run(writer.finish("success"))


def test_steps_between_two_commits_in_their_order(run: RunData) -> None:
    found = explain(run, parse_point("delays:0"))
    assert (found.sweep, found.index, found.attempt, found.begin_s) == ("delays", 0, 1, 10.0)
    assert [(step.kind, step.bench_time_s) for step in found.steps] == [
        *(("set", 11.0), ("event", 12.0)),
        *(("acquisition", None), ("acquisition", None), ("commit", 20.0)),
    ]
    setting, event, spoilt, taken, commit = found.steps
    assert setting.what == "delay.delay"
    assert setting.fields == {"old": 2e-9, "new": 0.0, "unit": "s"}
    assert (event.what, event.fields) == ("switch", {"instrument": "gate", "on": True})
    assert (spoilt.what, spoilt.fields["attempt"]) == ("discarded: too bright", 0)
    assert taken.fields["counts"].keys() == set(CHANNELS.values())
    assert sum(taken.fields["counts"].values()) == 100
    assert (taken.fields["attempt"], taken.fields["live_time_s"]) == (1, 5.0)
    assert commit.fields == {"rate": [20.0, "1/s"]}


def test_the_first_point_begins_with_the_run(run: RunData) -> None:
    found = explain(run, parse_point("2"))
    assert found.begin_s is None
    sets = [(step.what, step.fields["old"], step.fields["new"]) for step in found.steps if step.kind == "set"]
    before = SNAPSHOT["gate"]["open"]["value"], SNAPSHOT["delay"]["delay"]["value"]
    assert sets == [("gate.open", before[0], True), ("delay.delay", before[1], 2e-9)]


def test_settings_are_the_last_of_each_parameter_up_to_the_commit(run: RunData) -> None:
    found = explain(run, parse_point("delays:0"))
    assert [(s.instrument, s.value, s.unit, s.bench_time_s) for s in found.settings] == [
        ("delay", 0.0, "s", 11.0),
        ("gate", True, "", 0.5),
    ]


def test_wall_time_orders_where_the_clock_of_the_bench_began_anew(run: RunData) -> None:
    before_s, commit_s = run.rows("delays")["wall_time"][:2].tolist()
    middle_s = 0.5 * (before_s + commit_s)
    run.contents.audit[:] = [
        AuditEntry(0.1, middle_s, "gate", "open", False),
        AuditEntry(99.0, before_s - 1, "gate", "open", True),
    ]
    found = explain(run, parse_point("delays:0"))
    assert [step.fields["new"] for step in found.steps if step.kind == "set"] == [False]


def test_points_that_are_not_there_or_not_clear(run: RunData) -> None:
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
