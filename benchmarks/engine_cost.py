"""labctl's side of the engine benchmark: two sets, two gets and one acknowledged row per point.

Its own process answers the runner as the peers do. `python -m benchmarks.engine_cost --profile` instead
prints where the time of 20 000 points goes.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from qcodes.parameters import ParameterBase

import labctl
from benchmarks.peers.serve import serve
from labctl.bench.heart import Heart
from labctl.bench.page import Page
from labctl.clock import WallClock
from labctl.instruments.base import LabInstrument
from labctl.runs.progress import Silent, Tracker
from labctl.runs.run import Run
from labctl.runs.states import State
from labctl.runs.supervision import Supervisor
from labctl.store import RunWriter
from labctl.sweeps import Axis, Linear

PROFILED_POINTS = 20_000


class Pair(LabInstrument):
    """Two parameters to set and two to get, all in memory."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.add_parameter("x", set_cmd=None, get_cmd=None, initial_value=0.0)
        self.add_parameter("y", set_cmd=None, get_cmd=None, initial_value=0.0)
        self.add_parameter("a", get_cmd=lambda: 1.0)
        self.add_parameter("b", get_cmd=lambda: 2.0)


class Guardian:
    """In place of the guardian's process: a page of shared memory to beat into."""

    def __init__(self) -> None:
        self.page = Page.create()

    def running(self) -> bool:
        self.page.tick(time.monotonic(), True)
        return True

    def restart(self) -> None:
        raise AssertionError("it never dies")

    def tell(self, order: str, **fields: object) -> None:
        pass


@contextmanager
def run_on(pair: Pair, root: Path) -> Iterator[Run]:
    """A run that writes to a new folder under `root`, as a real one: it beats and audits every set.

    Its file is not completed.
    """
    guardian = Guardian()
    bench: Any = SimpleNamespace(
        clock=WallClock(), twin=None, heart=Heart(guardian), config=SimpleNamespace(kept_warm={})
    )
    with RunWriter.create(root, "benchmark", {}) as writer, closing(guardian.page):
        supervisor = Supervisor(bench, writer, progress=Tracker(Silent()))
        supervisor.machine.to(State.RUNNING)
        with mock.patch.object(ParameterBase, "global_on_set_callback", supervisor.audit):
            yield Run(bench, writer, {"a": "", "b": ""}, supervisor)


def scan(run: Run, pair: Pair, n: int) -> None:
    """`n` points; every row is acknowledged before the next point begins."""
    for point in run.sweep("scan", x=Axis((Linear(0.0, 1.0, n),))):
        pair.x(point.x)
        pair.y(point.x)
        point.record(a=pair.a(), b=pair.b())


def main() -> None:
    """Serve, or profile."""
    pair = Pair("pair")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:

        def scan_in_new_run(n: int) -> None:
            with run_on(pair, Path(folder)) as run:
                scan(run, pair, n)

        if "--profile" in sys.argv:
            _profile(pair, Path(folder))
        else:
            serve(labctl.__version__, scan_in_new_run)


def _profile(pair: Pair, root: Path) -> None:
    with run_on(pair, root) as run, cProfile.Profile() as profile:
        scan(run, pair, PROFILED_POINTS)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
