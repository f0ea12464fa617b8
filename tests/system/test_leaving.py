"""However a run ends, no light is left on, the file has what was committed, and the twin is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.bench.bench import Bench, TwinOptions
from labctl.bench.twin_client import TwinProcess
from labctl.cli.runs import ABORTED_EXIT_CODE
from labctl.runs.execute import ExperimentFailed, execute, find_experiment
from labctl.store import RunData, list_runs, open_run
from labctl.twin.presence import process_alive
from tests.system.conftest import BENCH, MidRun, environment, labctl_command, run_labctl

posix = pytest.mark.skipif(sys.platform == "win32", reason="no signals to send there")
DEADLINE_S = 120.0
LIGHT = ("vis_photons_at_sample_per_s", "mir_field_mv_cm", "mir_reaches_sample", "diode_fires", "cw_emits")


def only_run(folder: Path) -> RunData:
    (info,) = list_runs(folder / "runs")
    return open_run(info.path)


def assert_dark(state: dict[str, Any]) -> None:
    assert {name: state[name] for name in LIGHT} == dict.fromkeys(LIGHT, 0)


def assert_complete(data: RunData, status: str, points: int) -> None:
    """The HDF5 file is there alone, with the committed points, tags for each of them, and a dark end."""
    assert data.path.name == "run.h5" and not list(data.directory.glob("*.journal"))
    assert data.status == status
    assert data.rows("points")["index"].tolist() == list(range(points))
    for acquisition, rate in zip(data.acquisitions, data.rows("points")["rate"], strict=False):
        counts = sum(int(np.isin(block.channels, (1, 2)).sum()) for block in data.tag_blocks(acquisition))
        assert counts / (acquisition.live_time_ps * 1e-12) == pytest.approx(rate) and counts > 1000
    assert data.twin is not None
    assert_dark(data.twin["state"])


@contextmanager
def started(*settings: str, seed: int = 0) -> Iterator[subprocess.Popen[str]]:
    """`labctl run hold_light`, in the present folder; ended at the latest with the test."""
    arguments = [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(
        labctl_command("run", "hold_light", "--bench", BENCH, "--seed", str(seed), *arguments),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(stream: Any, text: str) -> str:
    """The first line that contains the text; the stream must not end before."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"{text!r} was never said")


def twin_pid(process: subprocess.Popen[str]) -> int:
    return int(read_until(process.stdout, "twin").split()[1])


def await_gone(pid: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while process_alive(pid):
        assert time.monotonic() < deadline_s, f"process {pid} lives on"
        time.sleep(0.02)


@posix
def test_ctrl_c_stops_after_the_point(user_folder: Path) -> None:
    with started("points=100000") as process:
        pid = twin_pid(process)
        read_until(process.stdout, "begin 2")
        process.send_signal(signal.SIGINT)
        last = [line for line in process.stdout or () if line.startswith("begin")]
        errors = process.stderr.read() if process.stderr else ""
        assert process.wait(DEADLINE_S) == ABORTED_EXIT_CODE, errors
    assert "stopping after this point" in errors and "Traceback" not in errors
    await_gone(pid)
    data = only_run(user_folder)
    assert data.reason == "Ctrl-C"
    # the point at hand when it was pressed is still taken to its end
    assert_complete(data, "abort", points=3 + len(last))


@posix
def test_ctrl_c_twice_stops_now(user_folder: Path) -> None:
    with started("points=2", "dwell=3600 s") as process:
        pid = twin_pid(process)
        read_until(process.stdout, "begin 0")
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, "stopping after this point")
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read() if process.stderr else ""
        assert process.wait(DEADLINE_S) == ABORTED_EXIT_CODE, errors
    assert "stopping now" in errors and "Traceback" not in errors
    await_gone(pid)
    data = only_run(user_folder)
    assert (data.status, data.reason, data.sweeps) == ("abort", "Ctrl-C twice", [])
    (acquisition,) = data.acquisitions
    assert acquisition.live_time_ps < 3600e12
    assert data.path.name == "run.h5" and data.twin is not None
    assert_dark(data.twin["state"])


@posix
def test_a_killed_run_loses_nothing_and_takes_its_twin_along(user_folder: Path) -> None:
    with started("points=100000") as process:
        pid = twin_pid(process)
        read_until(process.stdout, "begin 3")
        process.kill()
    await_gone(pid)
    data = only_run(user_folder)
    assert data.status == "crashed"
    assert data.rows("points")["index"].tolist()[:3] == [0, 1, 2]


def test_an_exception_in_an_experiment(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Bench] = []
    seen: list[dict[str, Any]] = []
    close = TwinProcess.close

    def look(twin: TwinProcess | None) -> None:
        assert twin is not None
        seen.append(twin.client.truth()["state"])

    def look_and_close(twin: TwinProcess) -> None:
        look(twin)
        close(twin)

    monkeypatch.setattr(TwinProcess, "close", look_and_close)
    with pytest.raises(ExperimentFailed, match="the sample fell off"):
        execute(
            find_experiment("hold_light").model_validate({"fail_at": 2}), BENCH, root=user_folder / "runs",
            twin=TwinOptions(seed=5), on_open=opened.append,
            progress=MidRun(1.0, lambda: look(opened[0].twin)),
        )  # fmt: skip
    during, at_the_end = seen
    assert during["vis_photons_at_sample_per_s"] > 0 and during["mir_reaches_sample"]
    assert_dark(at_the_end)
    assert opened[0].twin is not None and not process_alive(opened[0].twin.pid)
    data = only_run(user_folder)
    assert data.reason == "RuntimeError: the sample fell off"
    assert_complete(data, "fail", points=2)


def test_an_exception_is_one_line_to_the_user(user_folder: Path) -> None:
    result = run_labctl(user_folder, "run", "hold_light", "--bench", BENCH, "--set", "fail_at=0", "--json")
    assert result.exit_code == 2
    assert result.stderr.startswith("labctl: hold_light failed with RuntimeError")
    assert result.stderr.count("\n") == 1 and "the sample fell off" in result.stderr
    assert only_run(user_folder).status == "fail"
