"""`labctl runs` and `labctl tag`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.store import add_note
from tests.cli.commands import DEADLINE_S, Call, assert_refused, environment
from tests.store.runs_to_find import write_run


@pytest.fixture
def shelf(tmp_path: Path) -> list[Path]:
    """Three runs in `runs`, from the oldest to the newest."""
    root, one = tmp_path / "runs", {"parameters": {"dwell": 10.0}, "parameter_units": {"dwell": "s"}}
    return [
        write_run(root, started="2026-01-31T10:00", title="first", sample="CdSe 12", **one),
        write_run(root, started="2026-02-01T10:00", title="second", status="abort", tags=["cold"]),
        write_run(root, "scan", started="2026-02-02T10:00", title="third"),
    ]


def found(labctl: Call, *options: str) -> list[str]:
    return [run["title"] for run in json.loads(labctl("runs", *options, "--json").out)["runs"]]


@pytest.mark.parametrize(
    ("options", "titles"),
    [
        ((), ["third", "second", "first"]),
        (("--limit", "1"), ["third"]),
        (("--limit", "0"), ["third", "second", "first"]),
        (("--experiment", "hbt"), ["second", "first"]),
        (("--where", "dwell > 5 s", "--where", "dwell<1 min"), ["first"]),
        (("--since", "2026-02-01"), ["third", "second"]),
        (("--until", "2026-02-01"), ["second", "first"]),
        (("--until", "2026-02-01 09:59"), ["first"]),
        (("--sample", "CdSe 12"), ["first"]),
        (("--tag", "cold"), ["second"]),
        (("--status", "abort"), ["second"]),
        (("--text", "third"), ["third"]),
        (("--text", "cold second"), ["second"]),
        (("--text", "cold", "--text", "third"), []),
    ],
)
def test_what_is_found(labctl: Call, shelf: list[Path], options: tuple[str, ...], titles: list[str]) -> None:
    assert found(labctl, *options) == titles


def test_the_table(labctl: Call, shelf: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    add_note(shelf[0], "looks good")
    ended = labctl("runs", "--limit", "2")
    assert (ended.code, ended.err) == (0, "")
    assert "3 runs, the newest 2 of them shown (--limit)" in ended.out
    third, second = (line for line in ended.out.splitlines() if line.startswith("│"))
    assert "2026-02-02 10:00" in third and shelf[2].name[7:] in third and "third" in third
    assert "abort" in second and "cold" in second and "a reason" in second
    assert "sample" not in ended.out  # nothing in this column
    first = labctl("runs", "--sample", "CdSe 12").out
    assert "looks good" in first and "first" not in first and "\n1 run\n" in first
    short = shelf[0].name[7:]
    assert json.loads(labctl("show", short, "--json").out)["title"] == "first"


def test_tags(labctl: Call, shelf: list[Path]) -> None:
    ended = labctl("tag", shelf[1].name, "+good", "-cold", "+checked")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith(": good checked\n")
    assert found(labctl, "--tag", "good") == ["second"] and found(labctl, "--tag", "cold") == []
    tagged = json.loads(labctl("tag", "last", "-bad", "+json", "--json").out)
    assert (Path(tagged["run"]).name, tagged["tags"]) == (shelf[2].name, ["json"])
    assert labctl("tag", "last", "-json").out.endswith(": no tags\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runs", "--since", "yesterday"), ["--since 'yesterday' is no date", "2026-01-31"]),
        (("runs", "--where", "dwell"), ["condition 'dwell'", "'dwell>10 s'"]),
        (("runs", "--where", "dwel>1"), ["did you mean 'dwell'"]),
        (("runs", "--where", "dwell>1 V"), ["'1 V' is a voltage"]),
        (("runs", "--limit", "-1"), ["--limit"]),
        (("tag", "last", "good"), ["write +good to add it or -good to remove it"]),
        (("tag", "last", "+"), ["a tag is one word"]),
        (("tag", "last"), ["--help"]),
        (("tag", "nothing", "+good"), ["no run named 'nothing'"]),
        (("runs", "--out", "nowhere"), ["no runs in nowhere", "--out"]),
    ],
)
def test_what_is_refused(
    labctl: Call, shelf: list[Path], arguments: tuple[str, ...], words: list[str]
) -> None:
    assert_refused(labctl(*arguments), *words)
    assert not Path("nowhere").exists()


def test_nothing_heavy_is_loaded_for_a_warm_index(labctl: Call, shelf: list[Path]) -> None:
    assert labctl("runs").code == 0
    run = [sys.executable, "-X", "importtime", "-m", "labctl", "runs"]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0 and "labctl.store.catalogue" in loaded
    assert not loaded & {"numpy", "h5py", "numba", "qcodes", "matplotlib"}
