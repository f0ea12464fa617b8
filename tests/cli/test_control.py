"""Commands to a live run from the command line."""

import json
import queue
from datetime import datetime
from pathlib import Path

import pytest

from labctl.runs.remote import Command, CommandPort
from labctl.store.folder import make_folder
from tests.cli.commands import assert_refused


@pytest.fixture
def commands():
    return queue.SimpleQueue()


@pytest.fixture
def folder(tmp_path, commands):
    folder = make_folder(tmp_path / "runs", "scan", datetime(2026, 1, 1, 12))
    (folder / "run.journal").touch()
    with CommandPort(folder, commands, lambda: "running", lambda: {"point": "3/20"}):
        yield folder


def asked(commands):
    found = []
    while not commands.empty():
        found.append(commands.get())
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pause"], [Command("pause")]),
        (["pause", "--now", "--reason", "lunch"], [Command("pause_now", "lunch")]),
        (["pause", "--keep-light"], [Command("keep_light"), Command("pause")]),
        (["continue"], [Command("continue")]),
        (["stop", "--reason", "enough"], [Command("stop", "enough")]),
        (["abort"], [Command("abort")]),
    ],
)
def test_the_newest_live_run_is_asked(labctl, folder, commands, arguments, expected):
    ended = labctl(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert f"{folder.name}: asked to" in ended.out and "(it was running)" in ended.out
    assert asked(commands) == expected


def test_a_run_is_named_by_the_end_of_its_name(labctl, folder, commands):
    assert labctl("stop", folder.name.rpartition("_")[2]).code == 0
    assert asked(commands) == [Command("stop")]


def test_a_note(labctl, folder, commands):
    assert labctl("note", "last", "sample moved").code == 0
    assert asked(commands) == [Command("note", "sample moved")]


def test_json(labctl, folder):
    assert json.loads(labctl("pause", "--json").out) == {
        "run": str(Path("runs", *folder.parts[-2:])), "state": "running", "point": "3/20", "asked": "pause",
    }  # fmt: skip


def test_status_of_all_and_of_one(labctl, folder, commands):
    for ended in (labctl("status"), labctl("status", "last")):
        assert ended.code == 0
        assert "running" in ended.out and "point 3/20" in ended.out
    (run,) = json.loads(labctl("status", "--json").out)["runs"]
    assert (run["state"], run["point"]) == ("running", "3/20")
    assert asked(commands) == []


def test_nothing_lives(labctl):
    assert "no run lives" in labctl("status").out
    assert_refused(labctl("pause"), "no run lives in runs", "--out")


def test_a_run_that_is_over(labctl, tmp_path):
    over = make_folder(tmp_path / "runs", "scan", datetime(2026, 1, 1, 12))
    (over / "run.journal").touch()
    assert_refused(labctl("stop", over.name), "no run lives here")


def test_status_tells_of_a_run_whose_process_died(labctl, tmp_path):
    dead = make_folder(tmp_path / "runs", "scan", datetime(2026, 1, 1, 12))
    (dead / "run.journal").touch()
    assert f"`labctl resume {dead.name}` goes on with it" in labctl("status").out
