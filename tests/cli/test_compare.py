"""`labctl diff` and `labctl explain` about runs on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.store import RunWriter
from tests.cli.commands import Call, assert_refused

HEADER: dict[str, Any] = {"parameters": {"dwell": 30.0}, "bench_text": "bench: b\nmeter: {}\n", "seed": 3}


def make_run(root: Path, **changes: Any) -> str:
    """A run of one point; returns its name."""
    writer = RunWriter.create(root, "delay_scan", HEADER | changes)
    writer.snapshot("before", {"delay": {"delay": {"value": 0.0, "unit": "s"}}})
    writer.event("switch", 1.0, instrument="gate", on=True)
    writer.audit("delay", "delay", 3e-9, 1.5)
    writer.row("delays", 0, 0, {"rate": 4000.0}, {"rate": "1/s"}, 2.0)
    return writer.finish("success").parent.name


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_what_differs_is_told_in_groups(labctl: Call, runs: Path) -> None:
    first = make_run(runs)
    second = make_run(runs, parameters={"dwell": 60.0}, bench_text="bench: b\nmeter: {range: 1}\n", seed=4)
    ended = labctl("diff", first, second)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].endswith(first) and lines[1].endswith(second)
    assert lines[2:-1] == [
        *("", "parameters", "  dwell: 30 s -> 60 s"),
        *("", "bench file", "  line 2 - meter: {}", "  line 2 + meter: {range: 1}"),
        *("", "circumstances", "  seed: 3 -> 4", ""),
    ]
    assert lines[-1].startswith("identical: experiment, ") and "instrument settings" in lines[-1]
    found = json.loads(labctl("diff", first, second, "--json").out)
    assert found["differing"]["parameters"][0] | {"sigma": None} == {
        "name": "dwell", "first": 30.0, "second": 60.0, "unit": "s", "sigma": None,
    }  # fmt: skip
    assert_refused(labctl("diff", first, "nothing"), "no run named 'nothing'")


def test_a_point_is_explained(labctl: Call, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    name = make_run(runs)
    ended = labctl("explain", name, "delays:0")
    assert (ended.code, ended.err) == (0, "")
    lines = [line for line in ended.out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines] == [
        ["1.000000 s", "event", "switch", "instrument = gate, on = True"],
        ["1.500000 s", "set", "delay.delay", "0 s -> 3 ns"],
        ["2.000000 s", "commit", "committed", "rate = 4000 1/s"],
        ["delay.delay", "3 ns", "1.500000 s"],
    ]
    assert "point delays:0:0, since the beginning of the run" in ended.out
    found = json.loads(labctl("explain", name, "0", "--json").out)
    assert [step["kind"] for step in found["steps"]] == ["event", "set", "commit"]
    assert_refused(labctl("explain", name, "delays:5"), "no point delays:5", "delays:0 to delays:0")
    assert_refused(labctl("explain", name, "x"), "'x' is not a point; write INDEX")
