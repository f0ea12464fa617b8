"""Runs that are cut off, by death or by hand, and go on: in the end nothing is missing, nothing is twice."""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from labctl.loading import find_config
from labctl.store import Acquisition, RunData, list_runs, open_run
from tests.system.conftest import BENCH, CommandResult, furnish, run_labctl
from tests.system.live import LiveRun, await_true, live

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL, SIGSTOP and SIGINT")
SEGMENTS, CUT_AT = 30, 27
# a dot that is never charged does not blink, and its counts are Poissonian
HBT = (
    "run", "hbt", "--bench", BENCH, "--seed", "5", "--json",
    "--twin-set", "world.dot.charging_per_biexciton=0", "--set", "mean_excitons=0.05",
    "--set", "duration=590 s", "--set", "dark_time=10 s",
)  # fmt: skip


def run_in(folder: Path) -> RunData:
    (info,) = list_runs(folder / "runs")
    return open_run(info.path)


def kill_within(run: LiveRun, sweep: str, index: int) -> RunData:
    """Kill the run in the middle of an acquisition; what is on disk then."""

    def dead_in_the_middle() -> RunData | None:
        run.process.send_signal(signal.SIGSTOP)  # so that it does not go on while we look
        data = open_run(run.folder)
        last = data.acquisitions[-1] if data.acquisitions else None
        if last is not None and (last.sweep, last.index) == (sweep, index) and last.live_time_ps > 0:
            if not last.ended:
                run.process.kill()
                run.process.wait()
                return open_run(run.folder)
        run.process.send_signal(signal.SIGCONT)
        return None

    run.await_points(index)
    return await_true(dead_in_the_middle, f"the middle of point {index}")


def counts(data: RunData, acquisition: Acquisition) -> int:
    """Counts of both detectors."""
    return sum(int(np.isin(block.channels, (1, 2)).sum()) for block in data.tag_blocks(acquisition))


def segments(data: RunData) -> list[Acquisition]:
    return [item for item in data.acquisitions if item.sweep == "segments"]


def assert_tags_ascend(data: RunData, acquisitions: list[Acquisition]) -> None:
    """All blocks of the acquisitions have one time that only goes forward."""
    end_ps = 0
    for block in (block for acquisition in acquisitions for block in data.tag_blocks(acquisition)):
        assert end_ps <= block.begin_ps <= block.end_ps
        if len(block):
            assert block.begin_ps <= block.times_ps[0] and block.times_ps[-1] < block.end_ps
            assert (np.diff(block.times_ps) >= 0).all()
        end_ps = block.end_ps


@dataclass(frozen=True)
class Hbt:
    """A run that was killed at 90 % and resumed, beside one that was not."""

    cut: RunData
    resumed: CommandResult
    data: RunData
    reference: RunData
    folder: Path


@pytest.fixture(scope="module")
def hbt(tmp_path_factory: pytest.TempPathFactory) -> Hbt:
    folder, other = tmp_path_factory.mktemp("cut"), tmp_path_factory.mktemp("whole")
    with live(other, *HBT) as whole:
        with live(folder, *HBT) as run:
            cut = kill_within(run, "segments", CUT_AT)
        resumed = run_labctl(folder, "resume", "last", "--json")
        code, _, errors = whole.ended()
    assert code == 0, errors
    return Hbt(cut, resumed, run_in(folder), run_in(other), folder)


def test_a_killed_run_goes_on_to_its_end(hbt: Hbt) -> None:
    assert hbt.cut.status == "crashed"
    assert hbt.resumed.exit_code == 0 and hbt.resumed.stderr == ""
    assert hbt.data.status == "success" and hbt.data.path.name == "run.h5"
    found = {row["quantity"]: row for row in hbt.resumed.found["estimates"]}
    assert math.isfinite(found["g2_0"]["value"]) and abs(found["g2_0"]["pull"]) < 5


def test_live_times_are_exactly_as_uninterrupted(hbt: Hbt) -> None:
    def live_times(data: RunData) -> list[tuple[str, int, int]]:
        return [(item.sweep, item.index, item.live_time_ps) for item in data.acquisitions]

    assert live_times(hbt.data) == live_times(hbt.reference)
    assert hbt.data.rows("segments")["index"].tolist() == list(range(SEGMENTS))
    assert_tags_ascend(hbt.data, hbt.data.acquisitions)


def test_counts_are_as_uninterrupted(hbt: Hbt) -> None:
    found = [counts(hbt.data, item) for item in segments(hbt.data)]
    expected = [counts(hbt.reference, item) for item in segments(hbt.reference)]
    assert found[:CUT_AT] == expected[:CUT_AT]  # the seeds are the same, and so are the photons
    # later ones are others of the same rate; after-pulses make the variance 1.01 of Poisson's. Each of the
    # three bounds of 5 sigma is broken by chance in one of 1.7 million runs
    for n, m in zip(found[CUT_AT:], expected[CUT_AT:], strict=True):
        assert abs(n - m) < 5 * math.sqrt(1.01 * (n + m))


def test_live_time_is_added_to_a_finished_run(hbt: Hbt) -> None:
    file = hbt.data.path
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    extended = run_labctl(hbt.folder, "extend", "last", "--live-time", "20 s", "--json")
    assert extended.exit_code == 0, extended.stderr
    data = open_run(hbt.folder / extended.found["run"])
    assert data.directory != hbt.data.directory and data.status == "success"
    assert data.header["extends"] == hbt.data.header["uuid"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    old_ps, new_ps = ([item.live_time_ps for item in segments(run)] for run in (hbt.data, data))
    assert [new - old for old, new in zip(old_ps, new_ps, strict=True)] == pytest.approx(
        [20e12 / SEGMENTS] * SEGMENTS, abs=2
    )
    assert data.rows("segments")["index"].tolist() == list(range(SEGMENTS))
    for acquisition in data.acquisitions:  # each is continued behind the end of the old run
        assert_tags_ascend(data, [acquisition])
    (g2,) = [row for row in extended.found["estimates"] if row["quantity"] == "g2_0"]
    assert abs(g2["pull"]) < 5


def test_a_scan_killed_in_its_middle_is_completed(tmp_path: Path) -> None:
    scan = (
        "run", "delay_scan", "--bench", BENCH, "--seed", "1", "--json", "--set", "dwell=5 s",
        "--set", "delays=points(0.3 ns, 3 ns, 10 ns, 25 ns, 60 ns, 200 ns)", "--set", "reference_every=3",
    )  # fmt: skip
    with live(tmp_path, *scan) as run:
        run.await_points(3)
        run.process.kill()
    resumed = run_labctl(tmp_path, "resume", "last", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    rows = run_in(tmp_path).rows("delays")
    assert sorted(rows["index"].tolist()) == list(range(9))
    assert sorted(rows["delay"][~rows["reference"]].tolist()) == [0.3e-9, 3e-9, 10e-9, 25e-9, 60e-9, 200e-9]
    assert rows["delay"][rows["reference"]].tolist() == [200e-9] * 3
    assert rows["live_time"] == pytest.approx([5.0] * 9)


def test_a_fresh_twin_does_not_repeat_its_photons(tmp_path: Path) -> None:
    """Cut in the very first acquisition, before anything else has told how late it is on the bench."""
    hbt = ("run", "hbt", "--bench", BENCH, "--set", "dark_time=300 s", "--set", "duration=2 s")
    with live(tmp_path, *hbt) as run:
        cut = kill_within(run, "darks", 0)
    resumed = run_labctl(tmp_path, "resume", "last")
    assert resumed.exit_code == 0, resumed.stderr
    data = run_in(tmp_path)
    times_ps = np.concatenate([block.times_ps for block in data.tag_blocks(data.acquisitions[0])])
    taken_before = sum(len(block) for block in cut.tag_blocks(0))
    assert 0 < taken_before < times_ps.size
    steps = np.diff(times_ps).tolist()
    pairs = list(pairwise(steps))
    # by chance two steps in a row agree to the picosecond in one of a million runs
    assert not set(pairs[: taken_before - 2]) & set(pairs[taken_before:])


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user with a bench and a twin of its own."""
    folder = furnish(tmp_path)
    for kind in ("benches", "twins"):
        target = folder / "configs" / kind / "own.yaml"
        target.parent.mkdir(parents=True)
        shutil.copyfile(find_config(kind, BENCH), target)
    change(folder / "configs" / "benches" / "own.yaml", f"twin: {BENCH}", "twin: own")
    yield folder


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_a_run_is_stopped_killed_refused_and_forced_to_its_end(own_bench: Path) -> None:
    long = ("run", "hold_light", "--bench", "own", "--set", "points=8", "--set", "dwell=20 s")
    with live(own_bench, *long) as run:
        run.await_points(2)
        run.process.send_signal(signal.SIGINT)
        await_true(lambda: run.status() is None or run.status().state == "stopping", "the first Ctrl-C")
        run.process.send_signal(signal.SIGINT)
        assert run.ended()[0] == 130
    assert run_in(own_bench).reason == "Ctrl-C twice"
    with live(own_bench, "resume", "last") as run:
        kill_within(run, "points", 5)

    change(own_bench / "configs" / "benches" / "own.yaml", "max_power_w: 5 uW", "max_power_w: 4.9 uW")
    change(own_bench / "configs" / "twins" / "own.yaml", 'serial: "11400518"', 'serial: "11400519"')
    change(own_bench / "experiments" / "hold_light.py", "Hold the light", "Hold a light")
    refused = run_labctl(own_bench, "resume", "last")
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    for words in (
        "the bench file changed", "the file of the twin changed", "the file of the experiment changed",
        "mir_rotator was Thorlabs ELL14, s/n 11400518", "is Thorlabs ELL14, s/n 11400519", "--force",
    ):  # fmt: skip
        assert words in refused.stderr

    forced = run_labctl(own_bench, "resume", "last", "--force")
    assert forced.exit_code == 0, forced.stderr
    assert next(line for line in forced.stdout.splitlines() if line.startswith("begin")) == "begin 5"
    data = run_in(own_bench)
    assert data.status == "success"
    assert data.rows("points")["index"].tolist() == list(range(8))
    assert [item.live_time_ps for item in data.acquisitions] == [20 * 10**12] * 8
    assert_tags_ascend(data, data.acquisitions)
    differences = [event["differences"] for event in data.events if event["kind"] == "resumed"]
    assert differences[0] == [] and len(differences) == 2 and len(differences[1]) == 4
    again = run_labctl(own_bench, "resume", "last")
    assert again.exit_code == 2 and "taken to its end" in again.stderr and "labctl extend" in again.stderr
