"""Does the guardian ever cry wolf? Runs on the simulated bench, under the worst that is still nobody's fault.

    make soak                    # two hours
    make soak SOAK_MINUTES=10    # the short version

All cores are kept busy by other processes; every run starts with an empty cache of compiled code; a cryostat
takes five seconds for each answer; engine and guardian are stopped at random for 100 ms. Neither a missed
beat (the guardian closes the shutters) nor a take-over may happen. Steps of the system's clock cannot matter:
beats and limits are counted on the monotonic clock, which no step moves; `--step-clock` proves it on a
machine where that is allowed and harmless. A line is printed every minute, with the closest call: how much
was left of the promise that came nearest to being broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

from labctl.bench.bench import TwinOptions
from labctl.bench.page import Page
from labctl.bench.record import FILE_NAME
from labctl.loading import find_config
from labctl.runs import Analysis, Experiment, Run
from labctl.runs.progress import WAITING
from labctl.runs.session import take_run
from labctl.store import open_run
from labctl.sweeps import Axis, Linear
from labctl.timetags import Correlation, Counts
from tests.campaigns.slow_cryostat import cryostat
from tests.load import busy_cores

ROOT = Path(__file__).resolve().parents[2]
RUN_S = 180.0
"""Wall time after which a run is told to stop after the point, and another one begins."""
LEAVE_S = 300.0
STOP_S = 0.1
BETWEEN_STOPS_S = 3.0
CLOCK_STEP_S = 3600.0
TELL_S = 60.0
ALARMS = ("missed beat", "takes over")


class Soak(Experiment):
    """Photon correlation with a look at the cryostat after every tenth point."""

    name: ClassVar[str] = "soak"
    roles: ClassVar[dict[str, type]] = {}
    records: ClassVar[dict[str, str]] = {"rate": "1/s", "temperature": "K"}
    points: int = 100_000

    def duration_s(self) -> float:
        return 2.0 * self.points

    def run(self, run: Run) -> None:
        bench = run.bench
        temperature_k = bench.cryostat.temperature()
        bench.cw_laser.power_setpoint(0.5e-3)
        bench.vis_attenuator.transmission(0.2)
        with run.emission(bench.cw_laser):
            for point in run.sweep("points", number=Axis((Linear(0, self.points - 1, self.points),))):
                if point.index % 10 == 9:
                    temperature_k = bench.cryostat.temperature()
                correlation = Correlation([1, 2], window_ps=200_000, bin_ps=500)
                tags = run.acquire(bench.tagger, 2.0, Counts([1, 2]), correlation, channels=[1, 2])
                point.record(rate=tags.rate(1, 2), temperature=temperature_k)

    def analyse(self, data: object) -> Analysis:
        return Analysis([])

    def plot(self, data: object, analysis: Analysis, figure: object) -> None:
        pass


@dataclass
class Promise:
    """What was promised last."""

    due_s: float = float("inf")
    limit_s: float = 0.0
    what: str = ""


def measure_beats() -> dict[str, float | str]:
    """From now on, the beats of this process: how many, and the least time that was left of a promise."""
    figures: dict[str, float | str] = {"beats": 0, "least_left_s": float("inf"), "of_s": 0.0, "during": ""}
    last = Promise()
    plain_beat = Page.beat

    def beat(page: Page, due_s: float) -> None:
        nonlocal last
        now_s = time.monotonic()
        figures["beats"] += 1  # type: ignore[operator]
        if last.due_s - now_s < figures["least_left_s"]:  # type: ignore[operator]
            figures.update(least_left_s=last.due_s - now_s, of_s=last.limit_s, during=last.what)
        last = Promise(due_s, due_s - now_s, page.read_beat().what)
        plain_beat(page, due_s)

    Page.beat = beat  # type: ignore[method-assign]
    return figures


def keep_printing(figures: dict[str, float | str]) -> None:
    """A line every second, as long as the process lives."""
    while True:
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()
        time.sleep(1.0)


def be_the_engine(bench: str, root: Path, seed: int) -> None:
    """One run in this process, until it is told to stop; a run that ever waited in the dark is a failure."""
    threading.Thread(target=keep_printing, args=(measure_beats(),), daemon=True).start()
    taken = take_run(Soak(), bench, root=root, twin=TwinOptions(seed=seed))
    states = [event["state"] for event in open_run(taken.directory).events if event["kind"] == "state"]
    if waits := [state for state in states if state in WAITING]:
        sys.exit(f"the run was {', '.join(waits)}: {taken.directory}")


@dataclass
class Tally:
    """What was seen so far."""

    folder: Path
    runs: int = 0
    failures: int = 0
    beats: int = 0
    stops: int = 0
    clock_steps: int = 0
    closest: dict[str, float | str] = field(default_factory=lambda: {"least_left_s": float("inf")})
    _beats_before: int = 0

    def hear(self, stream: IO[str]) -> None:
        """Take the figures of one run until it ends."""
        self._beats_before = self.beats
        for line in stream:
            figures = json.loads(line)
            self.beats = self._beats_before + figures["beats"]
            if figures["least_left_s"] < self.closest["least_left_s"]:
                self.closest = figures

    def alarms(self) -> list[str]:
        """Every alarm that any guardian has written."""
        lines = [line for file in self.folder.rglob(FILE_NAME) for line in file.read_text().splitlines()]
        return [line for line in lines if json.loads(line)["what"] in ALARMS]

    def line(self, minutes: float) -> str:
        closest = self.closest
        call = (
            f"{closest['least_left_s']:.2f} s left of {closest['of_s']:.2f} s ({closest['during'] or 'code'})"
            if "of_s" in closest
            else "none"
        )
        steps = f", {self.clock_steps} clock steps" if self.clock_steps else ""
        return (
            f"{minutes:6.1f} min: {self.runs} runs, {self.failures} failed, {self.beats} beats, "
            f"{self.stops} stops of {STOP_S * 1e3:.0f} ms{steps}, closest call {call}, "
            f"{len(self.alarms())} alarms\n"
        )


def guardian_of(engine: int) -> int | None:
    """The guardian among the children of a process."""
    for listing in Path(f"/proc/{engine}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listing.read_text().split()):
                if b"labctl.bench.guardian" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
    return None


def disturb(process: subprocess.Popen[str], tally: Tally, dice: random.Random, step_clock: bool) -> None:
    """Stop engine or guardian for 100 ms, or step the clock, at random, while the run lives."""
    while process.poll() is None:
        time.sleep(dice.expovariate(1 / BETWEEN_STOPS_S))
        victim = dice.choice([process.pid, guardian_of(process.pid)])
        if victim is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP)
                time.sleep(STOP_S)
                os.kill(victim, signal.SIGCONT)
                tally.stops += 1
        if step_clock and tally.stops % 10 == 0:
            for step_s in (CLOCK_STEP_S, -CLOCK_STEP_S):
                time.clock_settime(time.CLOCK_REALTIME, time.time() + step_s)
                tally.clock_steps += 1
                time.sleep(1.0)


def one_run(bench: Path, tally: Tally, dice: random.Random, run_s: float, step_clock: bool) -> None:
    """A run in a process of its own, with an empty cache; told to stop after `run_s`, and it must."""
    tally.runs += 1
    folder = tally.folder / f"run{tally.runs}"
    (folder / "cache").mkdir(parents=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "tests.campaigns.no_false_alarm", "--engine", str(bench)]
    command += ["--folder", str(folder), "--seed", str(tally.runs)]
    with (folder / "errors").open("w") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, start_new_session=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        threading.Thread(target=tally.hear, args=(process.stdout,), daemon=True).start()
        threading.Thread(target=disturb, args=(process, tally, dice, step_clock), daemon=True).start()
        with suppress(subprocess.TimeoutExpired):
            process.wait(run_s)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    if process.returncode != 0:
        tally.failures += 1
        words = (folder / "errors").read_text().strip()[-2000:]
        sys.stdout.write(f"run {tally.runs} ended with status {process.returncode}: {words}\n")


def keep_telling(tally: Tally, begin_s: float, over: threading.Event) -> None:
    """A line every minute until it is over."""
    while not over.wait(TELL_S):
        sys.stdout.write(tally.line((time.monotonic() - begin_s) / 60))
        sys.stdout.flush()


def soak(minutes: float, seed: int, step_clock: bool) -> int:
    """Run after run for that long; the number of alarms and failed runs."""
    begin_s, dice, over = time.monotonic(), random.Random(seed), threading.Event()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labctl-soak-")))
        os.environ["LABCTL_LOCKS"] = str(folder / "locks")
        address = stack.enter_context(cryostat())
        driver = "tests.campaigns.slow_cryostat:SlowCryostat"
        entry = f"instruments:\n  cryostat: {{driver: '{driver}', address: '{address}'}}\n"
        bench = folder / "soak.yaml"
        bench.write_text(find_config("benches", "sim_dot").read_text().replace("instruments:\n", entry, 1))
        tally = Tally(folder)
        stack.enter_context(busy_cores())
        stack.callback(over.set)
        threading.Thread(target=keep_telling, args=(tally, begin_s, over), daemon=True).start()
        while (left_s := 60 * minutes - (time.monotonic() - begin_s)) > 0:
            one_run(bench, tally, dice, min(RUN_S, left_s), step_clock)
        sys.stdout.write(tally.line((time.monotonic() - begin_s) / 60))
        for alarm in tally.alarms():
            sys.stdout.write(f"alarm: {alarm}\n")
        return len(tally.alarms()) + tally.failures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "120")))
    parser.add_argument("--seed", type=int, default=0, help="of the stops")
    parser.add_argument("--step-clock", action="store_true", help="step the system's clock by an hour")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        be_the_engine(options.engine, options.folder / "runs", options.seed)
        return 0
    return 1 if soak(options.minutes, options.seed, options.step_clock) else 0


if __name__ == "__main__":
    sys.exit(main())
