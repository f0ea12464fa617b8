"""The experiment that is killed: light on; at every point a mount and the delay move, and tags are taken."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from labctl.instruments.capabilities import Delay, Excitation, PulsedSource, Shutter, TimeTagger
from labctl.runs import Experiment, Run
from labctl.sweeps import Axis, Linear
from labctl.timetags import Counts, TagBlock
from tests.kill.trap import TRAP

DET_A, DET_B, MIR_SYNC = 1, 2, 4


class TrappedCounts(Counts):
    """Counts, and in the middle of an acquisition the trap, or a request to pause for one in the dark."""

    def __init__(self, run: Run) -> None:
        super().__init__([DET_A, DET_B])
        self._run = run

    def update(self, block: TagBlock) -> None:
        """Count the block; from the third point on the run may die here."""
        super().update(block)
        if TRAP.point < 2:
            return
        TRAP.at("acquiring")
        if TRAP.trial.phase == "paused" and not TRAP.sprung:
            self._run.supervisor.requests.ask_pause("a cup of tea", now=True)


class KillMe(Experiment):
    """A delay scan that dies."""

    name: ClassVar[str] = "kill_me"
    roles: ClassVar[dict[str, type]] = {
        "tagger": TimeTagger,
        "diode": PulsedSource,
        "excitation": Excitation,
        "delay": Delay,
        "mir_gate": Shutter,
    }
    records: ClassVar[dict[str, str]] = {"rate": "1/s", "counts": ""}
    points: int = 5
    dwell_s: float = 1.5

    def duration_s(self) -> float:
        """Bench time of all points."""
        return self.points * self.dwell_s

    def run(self, run: Run) -> None:
        """Scan, with a child process beside, as a user's own program may be."""
        bench = run.bench
        child = subprocess.Popen(["sleep", "3600"])
        try:
            bench.diode.synchronised(True)
            bench.mir_field.field(5e8)
            with run.emission(bench.diode, bench.mir_gate), _leaving():
                for point in run.sweep("points", delay=Axis((Linear(0.0, 40e-9, self.points),), "s")):
                    self._take(run, bench, point)
        finally:
            child.kill()
            child.wait()

    def _take(self, run: Run, bench: Any, point: Any) -> None:
        TRAP.point += 1
        bench.excitation.mean_excitons(0.1 + 0.02 * (point.index % 2))
        bench.delay.delay(point.delay)
        counts = TrappedCounts(run)
        tags = run.acquire(bench.tagger, self.dwell_s, counts, channels=[DET_A, DET_B, MIR_SYNC])
        point.record(rate=tags.rate(DET_A, DET_B), counts=sum(counts.counts.values()))


@contextmanager
def _leaving() -> Iterator[None]:
    """The last moment before the light goes off by itself."""
    yield
    TRAP.leaving = True
    TRAP.at("shutting_down", 0)
