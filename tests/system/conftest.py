"""Whole experiments on twins: real drivers, real transports, one run shared by all tests that look at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.bench.bench import Bench, TwinOptions
from labctl.runs.execute import Outcome, execute, find_experiment
from labctl.runs.progress import Silent
from labctl.store import RunData, open_run

ROOT = Path(__file__).resolve().parents[2]
BENCH = "sim_dot"


def labctl_command(*arguments: str) -> list[str]:
    """`labctl` with these arguments, as a user's shell would start it."""
    return [sys.executable, "-m", "labctl", *arguments]


def environment() -> dict[str, str]:
    """That of this process, with labctl importable from anywhere."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), inherited]))}


@dataclass(frozen=True)
class CommandResult:
    """A finished `labctl` command and the folder it was started in."""

    folder: Path
    exit_code: int
    stdout: str
    stderr: str

    @property
    def found(self) -> dict[str, Any]:
        """What it printed as JSON."""
        return dict(json.loads(self.stdout))

    @property
    def files(self) -> list[Path]:
        """The files it says it wrote."""
        return [self.folder / name for name in self.found["files"]]

    @property
    def run_files(self) -> list[Path]:
        """The `run.h5` among them."""
        return [file for file in self.files if file.name == "run.h5"]


def run_labctl(folder: Path, *arguments: str) -> CommandResult:
    """Run `labctl` in `folder` to its end."""
    done = subprocess.run(
        labctl_command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )
    return CommandResult(folder, done.returncode, done.stdout, done.stderr)


@dataclass
class MidRun(Silent):
    """A progress watcher that does something once, when the run has acquired `after_s` of bench time."""

    after_s: float
    action: Callable[[], None]

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        pending = self.after_s > 0
        self.after_s -= seconds
        if pending and self.after_s <= 1e-9:
            self.action()


@dataclass(frozen=True)
class Taken:
    """A run that was made for a test: its outcome, its file, and its estimates by quantity."""

    outcome: Outcome
    data: RunData

    @property
    def verdict(self) -> str:
        assert self.outcome.analysis is not None
        return self.outcome.analysis.verdict

    @property
    def notes(self) -> list[str]:
        assert self.outcome.analysis is not None
        return self.outcome.analysis.notes

    def estimate(self, quantity: str) -> Any:
        assert self.outcome.analysis is not None
        return {e.quantity: e for e in self.outcome.analysis.estimates}[quantity]

    def pull(self, quantity: str, value: float | None = None) -> float:
        """How many errors the estimate lies above `value`, by default the truth."""
        assert self.outcome.analysis is not None
        truth = self.outcome.truth[quantity] if value is None else value
        return self.outcome.analysis.pull(self.estimate(quantity), truth)

    def rates(self, channel: int) -> list[float]:
        """Count rate of a channel in 1/s, by acquisition in the order taken."""
        return [
            sum(int((block.channels == channel).sum()) for block in self.data.tag_blocks(acquisition))
            / (acquisition.live_time_ps * 1e-12)
            for acquisition in self.data.acquisitions
        ]


def take(
    root: Path,
    experiment: str,
    *,
    seed: int,
    overrides: dict[str, Any] | None = None,
    block_mir_after_s: float | None = None,
    **parameters: Any,
) -> Taken:
    """Run an experiment on the twin; a beam block falls into the MIR beam after so much acquired time."""
    opened: list[Bench] = []

    def block_mir() -> None:
        assert opened[0].twin is not None
        opened[0].twin.client.set_knob("mir_blocked", True)

    def on_open(bench: Bench) -> None:
        opened.append(bench)
        if block_mir_after_s == 0:
            block_mir()

    outcome = execute(
        find_experiment(experiment).model_validate(parameters),
        BENCH,
        root=root,
        twin=TwinOptions(seed=seed, overrides=overrides),
        progress=MidRun(block_mir_after_s or 0.0, block_mir),
        on_open=on_open,
    )
    return Taken(outcome, open_run(outcome.directory))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> CommandResult:
    """The whole demo, as `labctl demo --seed 0 --json` in an empty folder; one file of tests looks at it."""
    return run_labctl(tmp_path_factory.mktemp("demo"), "demo", "--seed", "0", "--json")


HOLD_LIGHT = '''
"""A user's own experiment: light on, count, tell standard output about every point, fail if told to."""

import os
from typing import ClassVar

from pydantic import Field

from labctl.instruments.capabilities import Excitation, PulsedSource, Shutter, TimeTagger
from labctl.quantities import Seconds
from labctl.runs import Experiment
from labctl.sweeps import Axis, Linear


class HoldLight(Experiment):
    """Hold the light on the sample."""

    name: ClassVar[str] = "hold_light"
    roles: ClassVar[dict] = {
        "tagger": TimeTagger, "diode": PulsedSource, "excitation": Excitation, "mir_gate": Shutter,
    }
    records: ClassVar[dict] = {"rate": "1/s"}
    points: int = 4
    dwell: Seconds = Field(0.5)
    fail_at: int = -1

    def duration_s(self):
        return self.points * self.dwell

    def run(self, run):
        bench = run.bench
        bench.diode.synchronised(True)
        bench.excitation.mean_excitons(0.1)
        bench.mir_field.field(5e8)
        print("twin", bench.twin.client.hello()["pid"], flush=True)
        with run.emission(bench.diode, bench.mir_gate):
            for point in run.sweep("points", number=Axis((Linear(0, self.points - 1, self.points),))):
                print("begin", point.index, flush=True)
                tags = run.acquire(bench.tagger, self.dwell, channels=[1, 2, 4])
                if point.index == self.fail_at:
                    raise RuntimeError("the sample fell off")
                point.record(rate=tags.rate(1, 2))

    def analyse(self, data):
        from labctl.runs import Analysis

        return Analysis([])

    def plot(self, data, analysis, figure):
        figure.subplots()
'''


def furnish(folder: Path) -> Path:
    """Make it a folder of a user, with a `labctl.toml` and the experiment `hold_light`."""
    (folder / "labctl.toml").write_text('path = ["."]\n')
    (folder / "experiments").mkdir()
    (folder / "experiments" / "hold_light.py").write_text(HOLD_LIGHT)
    return folder


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder of a user with a `labctl.toml` and the experiment `hold_light`."""
    monkeypatch.chdir(furnish(tmp_path))
    return tmp_path
