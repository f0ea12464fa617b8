"""The benchmark measures what it says: whole scans, every row of them on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engine_cost import Pair, run_on, scan
from benchmarks.report import Bar, Report
from labctl.store import open_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair():
    pair = Pair("pair")
    yield pair
    pair.close()


def test_every_row_of_the_scan_is_on_disk(pair, tmp_path):
    with run_on(pair, tmp_path) as run:
        scan(run, pair, 20)
        (journal,) = tmp_path.rglob("run.journal")
        rows = open_run(journal.parent).rows("scan")
    assert rows["index"].tolist() == list(range(20))
    assert (rows["a"].tolist(), rows["b"].tolist()) == ([1.0] * 20, [2.0] * 20)
    assert pair.x() == pair.y() == 1.0


@pytest.mark.parametrize("script", ["qcodes_measurement.py", "qcodes_dond.py"])
def test_a_peer_answers_with_its_version_and_seconds(script):
    command = [sys.executable, str(ROOT / "benchmarks" / "peers" / script)]
    done = subprocess.run(command, input="3\n5\n", capture_output=True, text=True, check=True, timeout=120)
    version, *seconds = done.stdout.split()
    assert version[0].isdigit()
    assert len(seconds) == 2 and all(float(s) > 0 for s in seconds)


def test_a_bar_is_kept_up_to_its_limit(capsys):
    report = Report("t", ("what", "us"), [("row", 12.345)], [Bar("low", 1.0, 1.0), Bar("high", 1.1, 1.0)])
    report.show()
    shown = capsys.readouterr().out
    assert "12.3" in shown and "kept   low" in shown and "MISSED high" in shown
    assert [bar["kept"] for bar in json.loads(json.dumps(report.as_dict()))["bars"]] == [True, False]
