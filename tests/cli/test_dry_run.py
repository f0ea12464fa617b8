"""`labctl run --dry-run` for people and for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from labctl.loading import find_config
from tests.cli.commands import Call, assert_refused

HBT = ("run", "hbt", "--dry-run", "--set", "duration=20 s", "--set", "dark_time=1 s")


def test_people_and_programs_are_told_the_same_and_nothing_is_left(labctl: Call, tmp_path: Path) -> None:
    ended = labctl(*HBT, "--bench", "dot_lab", "--json", "--seed", "3")
    found = json.loads(ended.out)
    assert (ended.code, ended.err, found["problems"]) == (0, "", [])
    assert {e["quantity"] for e in found["estimates"]} == {"g2_0", "g2_0_raw"}
    assert found["free_bytes"] > found["disk_bytes"] > 0
    shown = labctl(*HBT, "--bench", "dot_lab", "--seed", "3")
    assert shown.code == 0
    assert "dry run of hbt for dot_lab, rehearsed on sim_dot" in shown.out
    for word in ("segments", "g2_0_raw", "wall time on real", "bytes per tag", "note: limits from"):
        assert word in shown.out
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_the_real_bench_is_told_before_it_is_met(labctl: Call, tmp_path: Path) -> None:
    text = find_config("benches", "dot_lab").read_text()
    weak = text.replace("max_power_w: 1.1983545 mW", "max_power_w: 0.1 mW")
    (tmp_path / "weak.yaml").write_text(weak)
    ended = labctl("run", "delay_scan", "--bench", "weak.yaml", "--dry-run", "--json")
    assert ended.code == 2
    assert ended.err.startswith("labctl: the run would stop: mir_field: field = 1e+09 V/m is outside")
    assert "before the first point was committed" in ended.err
    found = json.loads(ended.out)
    assert found["problem"].startswith("mir_field: field") and found["estimates"] == []


def test_a_disk_that_is_too_small_is_a_problem(labctl: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    ended = labctl(*HBT, "--bench", "sim_dot", "--json")
    assert ended.code == 2
    assert "with its journal, but 1 kB are free in runs; make room or name another folder" in ended.err


def test_bad_input_is_refused_in_one_line(labctl: Call, tmp_path: Path) -> None:
    assert_refused(labctl("run", "hbt", "--bench", "sim_dot", "--scale", "0.1"), "--scale", "--dry-run")
    assert_refused(labctl(*HBT, "--bench", "sim_dot", "--scale", "2"), "--scale")
    assert_refused(labctl(*HBT, "--bench", "sim_dot", "--speed", "2"), "leave out --speed")
    assert_refused(labctl(*HBT, "--bench", "sim_dog"), "did you mean 'sim_dot'")
    assert_refused(labctl(*HBT, "--bench", "sim_dot", "--set", "dwel=1 s"), "no parameter 'dwel'")
    assert list(tmp_path.iterdir()) == []
