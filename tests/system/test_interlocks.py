"""What is watched on a bench: monitors, interlocks and the detector guard, on the twin from end to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.bench.bench import Bench, TwinOptions
from labctl.loading import find_config
from labctl.runs.execute import execute, find_experiment
from labctl.runs.progress import Silent
from labctl.store import RunData, list_runs, open_run
from tests.system.conftest import BENCH, furnish
from tests.system.live import DARK, attached_bench, command, lights, live

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="serial instruments of the twin need POSIX")
USUAL_DEG, BRIGHT_DEG = 47.77734375, 20.0
"""Of the wave plate: 26 nW at the meter and 5.7 kcps in each detector; 230 nW and 32 kcps."""
WATCHED = """
monitors:
  - {parameter: cw_laser.power, period: 2 s}
interlocks:
  - {parameter: power_meter.power, period: 1 s, high: 100 nW, hysteresis: 10 nW, hold: 3 s}
"""
GUARDED = "detector_guard: {channels: [1, 2], max_rate: 12 kHz, resume_below: 10 kHz}"
HOOK = """
[hooks]
command = ["sh", "-c", "cat >> told.txt"]
on = ["trip", "abort", "done"]
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a hook that writes down what it is told."""
    furnish(tmp_path)
    with (tmp_path / "labctl.toml").open("a") as file:
        file.write(HOOK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(folder: Path) -> list[str]:
    """The events that the hook was called for."""
    return [json.loads(line)["event"] for line in (folder / "told.txt").read_text().splitlines()]


def kinds(data: RunData, *wanted: str) -> Iterator[str]:
    """Kinds of the events, states by their names."""
    for event in data.events:
        kind = event.get("state", event["kind"])
        if kind in wanted:
            yield kind


def test_an_interlock_takes_the_light_away_until_it_is_released(lab: Path) -> None:
    with (
        attached_bench(lab / "bench.yaml", WATCHED) as twin,
        live(lab, "run", "hold_light", "--bench", "bench.yaml", "--set", "points=100000") as run,
    ):
        run.await_points(2)
        twin.client.set_knob("vis_waveplate_deg", BRIGHT_DEG)
        run.await_state("suspended")
        # the state is told first, and what follows is over before the twin's clock goes on
        begin_s = twin.client.time_ps()
        while twin.client.time_ps() == begin_s:
            pass
        assert lights(twin) == DARK
        assert "power_meter.power is 2" in command(lab, "status").stdout
        twin.client.set_knob("vis_waveplate_deg", USUAL_DEG)
        run.await_state("running")
        run.await_points(run.points() + 2)
        assert command(lab, "stop").exit_code == 0
        code, _, errors = run.ended()
        assert (code, "suspended: power_meter.power is" in errors) == (130, True), errors
        assert lights(twin) == DARK
    data = open_run(list_runs(lab / "runs")[0].path)
    # the light may have come back, and tripped it again, before the knob was turned back
    found = list(kinds(data, "interlock_tripped", "suspended", "interlock_released"))
    assert found == ["interlock_tripped", "suspended", "interlock_released"] * (len(found) // 3) and found
    assert {item.live_time_ps for item in data.acquisitions} == {500_000_000_000}
    assert set(told(lab)) == {"trip", "abort"}
    with h5py.File(data.path) as file:
        log = file["entry/environment/power_meter__power"]
        assert log.attrs["NX_class"] == "NXlog" and log["value"].attrs["units"] == "W"
        values, times_s = log["value"][()], log["time"][()]
        assert values.max() > 200e-9 and np.median(values) < 60e-9
        assert (np.diff(times_s) > 0).all() and len(values) == len(times_s) > 4
        assert file["entry/environment/cw_laser__power/value"].shape[0] > 1


@dataclass
class Flash(Silent):
    """Somebody opens a beam after a second of counting, and shuts it when the run complains."""

    bench: Bench | None = None
    acquired_s: float = 0.0

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        self.acquired_s += seconds
        if self.acquired_s == 1.0:
            self._turn(BRIGHT_DEG)

    def state(self, text: str) -> None:
        if text == "suspended":
            self._turn(USUAL_DEG)

    def opened(self, bench: Bench) -> None:
        self.bench = bench

    def _turn(self, angle_deg: float) -> None:
        assert self.bench is not None and self.bench.twin is not None
        self.bench.twin.client.set_knob("vis_waveplate_deg", angle_deg)


def test_the_detector_guard_spoils_a_point_which_is_taken_again(lab: Path) -> None:
    text = find_config("benches", BENCH).read_text(encoding="utf-8")
    (lab / "bench.yaml").write_text(f"{text}\n{GUARDED}\n", encoding="utf-8")
    flash = Flash()
    outcome = execute(
        find_experiment("hold_light").model_validate({"points": 4}), "bench.yaml", root=lab / "runs",
        twin=TwinOptions(seed=2), progress=flash, on_open=flash.opened,
    )  # fmt: skip
    data = open_run(outcome.directory)
    assert data.status == "success"
    order = ("running", "suspended", "switch", "detector_guard", "point_spoilt")
    found = list(kinds(data, *order))
    trip = found.index("suspended")
    assert found[trip - 2 : trip + 2] == ["switch", "switch", "suspended", "detector_guard"]
    assert sorted(found[trip + 2 : trip + 6]) == ["point_spoilt", "running", "switch", "switch"]
    off = [event["read_back"] for event in data.events if event["kind"] == "switch"]
    assert off == [True, True, False, False, True, True, False, False]
    rows = data.rows("points")
    assert rows["index"].tolist() == [0, 1, 2, 3] and rows["attempt"].tolist() == [0, 0, 1, 0]
    assert rows["rate"].max() < 15_000  # both detectors; the flash gave 64 kcps
    (spoilt,) = [item for item in data.all_acquisitions if item.discarded]
    assert (spoilt.index, spoilt.attempt) == (2, 0) and "above the limit of 1.2e+04 Hz" in spoilt.discarded
    assert [item.live_time_ps for item in data.acquisitions] == [500_000_000_000] * 4
    assert told(lab) == ["trip", "done"]
