"""A command that meets a run whose process died completes it; it leaves the living alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.store import RunWriter, open_run
from tests.cli.commands import Call
from tests.store.helpers import write_scan
from tests.store.runs_to_find import write_run


def dead_run(root: Path) -> Path:
    writer, _ = write_scan(root)
    writer.close()
    return writer.directory


@pytest.mark.parametrize("command", ["runs", "show", "tag", "recover"])
def test_a_dead_run_is_completed(labctl: Call, tmp_path: Path, command: str) -> None:
    dead = dead_run(tmp_path / "runs")
    arguments = {"runs": (), "tag": ("last", "+good")}.get(command, ("last",))
    ended = labctl(command, *arguments, "--json")
    assert ended.code == 0
    assert ended.err.startswith("labctl: ") and ended.err.count("\n") == 1
    assert dead.name in ended.err and "had died" in ended.err
    assert open_run(dead).status == "recovered"
    if command == "runs":
        assert json.loads(ended.out)["runs"][0]["status"] == "recovered"
    assert labctl(command, *arguments, "--json").err == ""


def test_the_given_run_only(labctl: Call, tmp_path: Path) -> None:
    first, second, other = (dead_run(tmp_path / "runs") for _ in range(3))
    for path in (first, second / "run.journal"):
        ended = labctl("show", str(path), "--json")
        assert json.loads(ended.out)["status"] == "recovered" and "had died" in ended.err
    assert open_run(other).status == "crashed"


def test_a_live_run_is_left_alone(labctl: Call, tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "runs", "hbt", {}) as writer:
        ended = labctl("runs", "--json")
        assert ended.err == ""
        assert json.loads(ended.out)["runs"][0]["status"] == "running"
        writer.finish("success")


def test_a_damaged_one_does_not_keep_the_others(labctl: Call, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    whole, dead, damaged = write_run(root), dead_run(root), dead_run(root)
    (damaged / "run.journal").write_bytes(b"nonsense" * 100)
    ended = labctl("runs", "--json")
    assert ended.code == 0
    lines = sorted(ended.err.splitlines())
    assert len(lines) == 2
    assert "is left as it is" in lines[0] and damaged.name in lines[0]
    assert "had died" in lines[1] and dead.name in lines[1]
    statuses = {Path(run["run"]).name: run["status"] for run in json.loads(ended.out)["runs"]}
    assert statuses == {whole.name: "success", dead.name: "recovered", damaged.name: "unreadable"}
    assert (damaged / "run.journal").read_bytes() == b"nonsense" * 100


def test_one_that_died_at_its_birth_is_removed(labctl: Call, tmp_path: Path) -> None:
    whole, stillborn = write_run(tmp_path / "runs"), dead_run(tmp_path / "runs")
    (stillborn / "run.journal").write_bytes(b"")
    ended = labctl("runs", "--json")
    assert stillborn.name in ended.err and "is removed" in ended.err and ended.err.count("\n") == 1
    assert [Path(run["run"]).name for run in json.loads(ended.out)["runs"]] == [whole.name]
    assert not stillborn.exists()
