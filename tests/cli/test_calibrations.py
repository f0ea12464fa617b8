"""`labctl calibrations`: those in use, with age, validity and origin."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from labctl.store.calibrations import Calibration, CalibrationStore
from tests.cli.commands import Call, assert_refused


@pytest.fixture
def now(tmp_path: Path) -> datetime:
    """Of the calibrations of two benches."""
    now = datetime.now(UTC)
    store, hours = CalibrationStore(tmp_path / "runs"), timedelta(hours=1)
    now += timedelta(seconds=20)  # the list is made a little later; shown ages are rounded to minutes
    old, new = now - 50 * hours, now - 2 * hours
    store.add(Calibration("dot_lab", "delay_zero", 1.0, None, "s", "first", old))
    store.add(Calibration("dot_lab", "delay_zero", 5.105e-6, 2e-9, "s", "edge", new, new + 10 * hours))
    store.add(Calibration("dot_lab", "skew", 1.3e-9, 2e-11, "s", "peak", old, new, run_path="runs/d/run_x"))
    store.add(Calibration("other", "irf", {"counts": np.arange(9)}, None, "", "pulsed", new))
    return now


def test_a_table_for_people(labctl: Call, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = labctl("calibrations")
    assert (ended.code, ended.err) == (0, "")
    lines = [line for line in ended.out.splitlines() if "│" in line]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert rows == [
        ["dot_lab", "delay_zero", "5.1050 ± 0.0020 µs", "2 h 0 min", "for 8 h 0 min more", "edge"],
        ["dot_lab", "skew", "1.300 ± 0.020 ns", "2 d 2 h", "STALE for 2 h 0 min", "run_x"],
        ["other", "irf", "counts [9]", "2 h 0 min", "always", "pulsed"],
    ]


def test_json_of_one_bench(labctl: Call, now: datetime) -> None:
    found = json.loads(labctl("calibrations", "--bench", "dot_lab", "--json").out)["calibrations"]
    assert [(c["name"], c["value"], c["error"], c["stale"]) for c in found] == [
        ("delay_zero", 5.105e-6, 2e-9, False),
        ("skew", 1.3e-9, 2e-11, True),
    ]
    assert found[0]["age_s"] == pytest.approx(7200, abs=600)


def test_nothing_and_an_unknown_bench(labctl: Call, now: datetime) -> None:
    assert labctl("calibrations", "--out", "elsewhere").out == "no calibrations in elsewhere\n"
    assert_refused(labctl("calibrations", "--bench", "dot_lob"), "did you mean 'dot_lab'?")
