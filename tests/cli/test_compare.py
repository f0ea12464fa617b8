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
