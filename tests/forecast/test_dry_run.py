"""Dry runs from outside: what they foretell, what they leave behind, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.forecast import DryRun, ForecastError, dry_run
from labctl.runs.execute import find_experiment
from labctl.twin.presence import process_alive
from tests.cli.commands import command, environment

DEADLINE_S = 60.0
SHORT = {"duration": 20.0, "dark_time": 1.0}
DELAYS = {"delays": "points(1 ns, 30 ns)", "dwell": 10.0, "reference_every": 0}


class Watcher:
    """Remembers what the rehearsal told."""

    def __init__(self) -> None:
        self.title, self.total_s, self.done_s, self.finished = "", 0.0, 0.0, False
        self.done_points, self.last_state = 0, ""

    def start(self, title: str, total_s: float) -> None:
        self.title, self.total_s = title, total_s

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        self.done_s += seconds

    def points(self, done: int, total: int) -> None:
        self.done_points = done

    def state(self, text: str) -> None:
        self.last_state = text

    def say(self, text: str) -> None:
        raise AssertionError(text)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty at first; the working directory is another."""
    folder = tmp_path / "spare"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    return folder


def wanted(experiment: str, bench: str = "sim_dot", scale: float = 1.0, **parameters: object) -> DryRun:
    made = find_experiment(experiment).model_validate(parameters)
    return DryRun(experiment, made.parameters(), bench, scale, seed=5)


def test_a_dry_run_foretells_counts_errors_time_and_disk_and_leaves_nothing(spare: Path) -> None:
    watcher = Watcher()
    forecast = dry_run(wanted("hbt", "dot_lab", **SHORT), watcher)
    assert list(spare.iterdir()) == [] and [p.name for p in spare.parent.iterdir()] == ["spare"]
    assert (watcher.title, watcher.total_s, watcher.finished) == ("dry run of hbt", 21.0, True)
    assert watcher.done_s == pytest.approx(21.0)
    assert (watcher.done_points, watcher.last_state) == (1, "done")
    assert (forecast.bench, forecast.rehearsed_on, forecast.scale) == ("dot_lab", "sim_dot", 1.0)
    assert (forecast.problem, forecast.points) == ("", 1)
    darks, bright = [c for c in forecast.counts if c.channel == 1]
    assert (darks.sweep, bright.sweep) == ("darks", "segments")
    assert darks.rate_hz == pytest.approx(100, rel=0.5)  # the world of sim_dot: 100 dark counts per s
    assert bright.rate_hz > 20 * darks.rate_hz
    assert bright.counts == pytest.approx(20 * bright.rate_hz, rel=0.01)
    g2 = next(e for e in forecast.estimates if e.quantity == "g2_0")
    assert g2.truth is not None and abs(g2.value - g2.truth) < 5 * max(g2.error_low, g2.error_high)
    tags = sum(c.counts for c in forecast.counts)
    assert forecast.bytes_per_tag == pytest.approx(forecast.disk_bytes / tags, rel=0.01)
    assert 21.0 <= forecast.bench_time_s < 40
    assert forecast.wall_time_s == pytest.approx(forecast.bench_time_s + forecast.link_time_s)
    transports = {link.instrument: link.transport for link in forecast.links}
    assert transports["delay_generator"] == "tcp" and transports["power_meter"] == "visa"
    assert all(link.commands > 0 for link in forecast.links if link.instrument == "vis_rotator")


def test_a_shortened_rehearsal_is_scaled_and_says_so(spare: Path) -> None:
    full = dry_run(wanted("delay_scan", **DELAYS))
    short = dry_run(wanted("delay_scan", scale=0.25, **DELAYS))
    assert short.scale == 0.25
    assert any("rehearsed at 0.25" in note and "multiplied by 0.5" in note for note in short.notes)
    assert short.bench_time_s == pytest.approx(full.bench_time_s, abs=0.5)
    assert short.disk_bytes == pytest.approx(full.disk_bytes, rel=2.0)
    for one, other in zip(short.counts, full.counts, strict=True):
        assert (one.sweep, one.channel, one.acquisitions) == (other.sweep, other.channel, other.acquisitions)
        assert one.counts == pytest.approx(other.counts, rel=0.3)
        assert one.counts_per_acquisition == pytest.approx(one.counts / one.acquisitions)


def test_what_would_stop_the_run_is_foretold_with_its_place(spare: Path) -> None:
    (spare.parent / "experiments").mkdir()
    (spare.parent / "labctl.toml").write_text('path = ["."]\n')
    (spare.parent / "experiments" / "too_far.py").write_text(TOO_FAR)
    forecast = dry_run(DryRun("too_far", {}, "sim_dot"))
    assert "vis_attenuator: transmission = 1.2 is outside 0.0001 to 1" in forecast.problem.replace("  ", " ")
    assert forecast.problem_place == "after point steps:1, with 2 points committed"
    assert forecast.estimates == []


TOO_FAR = '''
from typing import ClassVar

from labctl.runs import Experiment
from labctl.sweeps import parse_axis


class TooFar(Experiment):
    """Opens the attenuator step by step, and one step too far."""

    name: ClassVar[str] = "too_far"
    roles: ClassVar[dict] = {}
    records: ClassVar[dict] = {}

    def duration_s(self):
        return 1.0

    def run(self, run):
        print("this must not disturb the parent")
        for point in run.sweep("steps", transmission=parse_axis("linear(0.4, 1.6, 4)", "")):
            run.bench.vis_attenuator.transmission(point.transmission)
'''


def test_a_dry_run_that_cannot_begin_says_why(spare: Path) -> None:
    with pytest.raises(ForecastError, match="did you mean 'sim_dot'"):
        dry_run(wanted("hbt", "sim_dog"))
    with pytest.raises(ForecastError, match=r"world\.dot\.tau_xs"):
        dry_run(DryRun("hbt", {}, "sim_dot", overrides={"world.dot.tau_xs": 1e-9}))
    assert list(spare.iterdir()) == []


def test_a_child_that_breaks_is_told_with_its_last_line(spare: Path) -> None:
    with pytest.raises(ForecastError, match="the dry run broke: "):
        dry_run(DryRun("hbt", {"duration": "never"}, "sim_dot"))
    assert list(spare.iterdir()) == []


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not {what} within {DEADLINE_S:g} s"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child through /proc")
def test_the_child_dies_with_a_killed_parent_and_cleans_up(spare: Path) -> None:
    run = command("run", "hbt", "--bench", "sim_dot", "--dry-run", "--set", "duration=10 h", "--scale", "1")
    parent = subprocess.Popen(
        run, cwd=spare.parent, env=environment() | {"TMPDIR": str(spare)}, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        wait_for(lambda: list(spare.glob("*/runs/*/*/run.journal")), "running")
        (child,) = children_of(parent.pid)
        grandchildren = children_of(child)
        assert grandchildren
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(DEADLINE_S)
    wait_for(lambda: not any(map(process_alive, [child, *grandchildren])), "ended")
    assert list(spare.iterdir()) == []
