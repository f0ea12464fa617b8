"""Runs that live in another process: started as a user would, watched, asked, killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from labctl.bench.twin_client import TwinProcess, start_twin
from labctl.cli import main
from labctl.loading import find_config
from labctl.runs.remote import NoLiveRun, Reply, ask_status, live_runs
from tests.system.conftest import BENCH, CommandResult, environment, labctl_command

DEADLINE_S = 120.0
DARK = {
    "vis_photons_at_sample_per_s": 0.0,
    "mir_field_mv_cm": 0.0,
    "mir_reaches_sample": False,
    "diode_fires": False,
    "cw_emits": False,
}
T = TypeVar("T")


def await_true(condition: Callable[[], T], what: str) -> T:
    """Wait for a condition, and return what made it true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"{what} has not come about in {DEADLINE_S:g} s"
        time.sleep(0.02)
    return found


@dataclass
class LiveRun:
    """A `labctl run` or `resume` in another process; `folder` is that of its run."""

    process: subprocess.Popen[str]
    root: Path

    @cached_property
    def folder(self) -> Path:
        return await_true(self._found, "a run that answers")

    def status(self) -> Reply | None:
        """How the run is; None when it is over."""
        try:
            return ask_status(self.folder)
        except NoLiveRun:
            return None

    def await_state(self, state: str) -> Reply:
        """Wait until the run is in a state."""
        return await_true(lambda: self._in(state), f"a run that is {state}")

    def points(self) -> int:
        """How many points of its sweep are done."""
        reply = self.status()
        return int(reply.details.get("point", "0/0").partition("/")[0]) if reply is not None else 0

    def await_points(self, done: int) -> None:
        """Wait until so many points of its sweep are done."""
        await_true(lambda: self.points() >= done, f"point {done}")

    def ended(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error, when it has ended."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err

    def _found(self) -> Path | None:
        if self.process.poll() is not None:
            raise AssertionError(f"the run is over: {self.ended()}")
        return next(iter(live_runs(self.root)), None)

    def _in(self, state: str) -> Reply | None:
        reply = self.status()
        return reply if reply is not None and reply.state == state else None


@contextmanager
def live(folder: Path, *arguments: str) -> Iterator[LiveRun]:
    """`labctl` with these arguments in `folder`, which is left without waiting; ended with the test."""
    process = subprocess.Popen(
        labctl_command(*arguments), cwd=folder, env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield LiveRun(process, folder / "runs")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def attached_bench(file: Path, more: str = "", seed: int = 4) -> Iterator[TwinProcess]:
    """A twin that stays, and in `file` the usual bench attached to it, with `more` at its end."""
    with start_twin(find_config("twins", BENCH), seed=seed) as twin:
        text = find_config("benches", BENCH).read_text(encoding="utf-8")
        text = text.replace(f"twin: {BENCH}", f"twin: {twin.control_address}")
        file.write_text(f"{text}\n{more}", encoding="utf-8")
        yield twin


def command(folder: Path, *arguments: str) -> CommandResult:
    """`labctl` with these arguments in `folder`, to its end in this process, which is quick."""
    out, err, before = StringIO(), StringIO(), sys.argv
    sys.argv = ["labctl", *arguments]
    try:
        with chdir(folder), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return CommandResult(folder, code, out.getvalue(), err.getvalue())


def lights(twin: TwinProcess) -> dict[str, Any]:
    """What the control port says of the light at the sample."""
    state = twin.client.truth()["state"]
    return {name: state[name] for name in DARK}


def is_lit(twin: TwinProcess) -> bool:
    """Whether visible and mid-infrared light reach the sample."""
    found = lights(twin)
    return found["vis_photons_at_sample_per_s"] > 1e9 and bool(found["mir_reaches_sample"])
