"""What the commands print about real runs: JSON that parses, and runs that can be rescued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from labctl.store import open_run
from tests.cli.commands import DEADLINE_S, Call, assert_refused, command, environment

HBT = ("run", "hbt", "--bench", "sim_dot", "--seed", "3")


def test_every_command_speaks_json(labctl: Call) -> None:
    ended = labctl(*HBT, "--json", "--set", "duration=20 s", "--set", "dark_time=1 s")
    run = json.loads(ended.out)
    assert (ended.code, ended.err, run["status"]) == (0, "", "success")
    assert run["estimates"] and all(Path(file).is_file() for file in run["files"])
    for name in ("last", run["run"], Path(run["run"]).name):
        shown = json.loads(labctl("show", name, "--json").out)
        assert (shown["run"], shown["parameters"]["duration"]) == (run["run"], 20.0)
        assert shown["analysis"]["estimates"] == run["estimates"]
    plotted = json.loads(labctl("plot", "--json", "-o", "copy.png").out)
    assert (plotted["figure"], plotted["status"]) == ("copy.png", "success")
    assert Path("copy.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(labctl("recover", "last", "--json").out)["status"] == "success"
    assert_refused(labctl("show", "nothing"), "no run named 'nothing'", Path(run["run"]).name)
    for text in (labctl("show").out, labctl("plot").out, labctl("list").out):
        assert text


def test_check_speaks_json(labctl: Call) -> None:
    ended = labctl("check", "sim_dot", "--json")
    lines = json.loads(ended.out)["instruments"]
    assert (ended.code, ended.err) == (0, "")
    assert all(line["ok"] and line["identity"] and line["state"] for line in lines)
    assert {"cw_laser", "tagger", "delay"} <= {line["instrument"] for line in lines}


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent differently there")
def test_twin_speaks_json_until_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("twin", "sim_dot", "--json"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as twin:
        assert twin.stdout is not None
        text = ""
        for line in twin.stdout:
            text += line
            if line == "}\n":
                break
        found = json.loads(text)
        assert found["control"].startswith("127.0.0.1:")
        assert "tagger" in found["devices"]
        twin.send_signal(signal.SIGINT)
        assert twin.wait(DEADLINE_S) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of the size of files stands in for a full disk")
def test_a_run_on_a_full_disk_waits_in_the_dark_and_can_be_ended(tmp_path: Path) -> None:
    import resource

    size = 1_000_000
    with subprocess.Popen(
        command(*HBT, "--json", "--set", "duration=10 s", "--set", "dark_time=1 s"), cwd=tmp_path,
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "suspended" in said and "nearly full; make room" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 130
    (folder,) = (tmp_path / "runs").glob("*/*")
    data = open_run(folder)
    assert (data.status, data.reason) == ("abort", "SIGTERM")
    assert data.acquisitions == [] or all(a.live_time_ps == 0 for a in data.acquisitions)
