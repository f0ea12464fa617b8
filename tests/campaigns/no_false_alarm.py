"""Does the guardian leave a slow but healthy run alone? Hours of runs under full load, and it must never act.

    python tests/campaigns/no_false_alarm.py --minutes 120

Runs on the simulated bench at the speed of the wall clock, one after the other, each with an empty cache
of compiled kernels, with a cryostat that takes 5 s to answer, and with all processors busy. At random moments
the engine or its guardian is stopped for 100 ms, and the wall clock jumps by an hour for the engine. A trip
is anything that the guardian writes into `guardian.jsonl`: a missed beat as well as a take-over. Prints a
line each minute and a summary; the exit status is 1 if there was a trip or a run that failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPLY_S = 5.0
STOP_S = 0.1
RUN_S = 240.0
"""Wall time of one run; the next one begins with a cold cache again."""
LOAD_NICENESS = 10
"""The load takes what others leave; so the processors are always busy, and never with the load alone."""

DRIVER = f'''
"""A cryostat that takes {REPLY_S:g} s to answer."""

from labctl.instruments.base import LabInstrument
from labctl.instruments.framing import until
from labctl.instruments.link import Link


class SlowCryostat(LabInstrument):
    """Answers every line with a temperature in K."""

    def __init__(self, name, address, *, clock=None):
        link = Link(address, until(b"\\n"), instrument=name, timeout_s=9.0)
        super().__init__(name, link, clock=clock)
        self.temperature = self.add_parameter(
            "temperature", unit="K", get_cmd=lambda: float(link.query(b"T?\\n")), docstring="In K."
        )
'''

EXPERIMENT = '''
"""Count under light for so long, ask the cryostat now and then, while the wall clock jumps."""

import random
import time
from typing import ClassVar

from labctl.instruments.capabilities import Excitation, PulsedSource, Shutter, TimeTagger
from labctl.quantities import Seconds
from labctl.runs import Analysis, Experiment
from labctl.sweeps import Axis, Linear
from labctl.timetags import Correlation, Counts, PulsedCorrelation


class Soak(Experiment):
    """Hold the light on the sample and count."""

    name: ClassVar[str] = "soak"
    roles: ClassVar[dict] = {
        "tagger": TimeTagger, "diode": PulsedSource, "excitation": Excitation, "mir_gate": Shutter,
    }
    records: ClassVar[dict] = {"rate": "1/s", "temperature": "K"}
    duration: Seconds = 60.0

    def duration_s(self):
        return self.duration

    def run(self, run):
        bench = run.bench
        bench.diode.synchronised(True)
        bench.excitation.mean_excitons(0.1)
        points = max(1, round(self.duration / 5))
        clock = time.time
        with run.emission(bench.diode, bench.mir_gate):
            for point in run.sweep("points", number=Axis((Linear(0, points - 1, points),))):
                jump_s = random.choice([0, 3600, -3600])
                time.time = lambda: clock() + jump_s
                bench.vis_attenuator.transmission(0.1 + 0.1 * (point.index % 2))
                correlation = Correlation([1, 2], window_ps=10_000, bin_ps=100)
                pulsed = PulsedCorrelation(1, 2, 4, 10**9, 3)
                tags = run.acquire(bench.tagger, 4.0, Counts([1, 2]), correlation, pulsed, channels=[1, 2, 4])
                cold = bench.cryostat.temperature() if point.index % 4 == 0 else 0.0
                point.record(rate=tags.rate(1, 2), temperature=cold)
        time.time = clock

    def analyse(self, data):
        return Analysis([])

    def plot(self, data, analysis, figure):
        figure.subplots()
'''


@dataclass
class Tally:
    """What was seen so far."""

    runs: int = 0
    failed: list[str] = field(default_factory=list)
    trips: list[str] = field(default_factory=list)
    stops: int = 0


def main() -> int:
    """Run the campaign; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--load", type=int, default=os.cpu_count(), help="busy processes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally, chance = Tally(), random.Random(options.seed)
    begin_s = time.monotonic()
    end_s = begin_s + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="labctl-soak-") as folder, busy(options.load), cryostat() as port:
        prepare(Path(folder), port)
        while (left_s := end_s - time.monotonic()) > 20:
            one_run(Path(folder), min(RUN_S, left_s), tally, chance, begin_s)
    say(begin_s, f"{tally.runs} runs, {tally.stops} stops of {1e3 * STOP_S:g} ms, {len(tally.trips)} trips, "
        f"{len(tally.failed)} failed runs")  # fmt: skip
    for line in (*tally.trips, *tally.failed):
        say(begin_s, line)
    return 1 if tally.trips or tally.failed or not tally.runs else 0


def say(begin_s: float, text: str) -> None:
    """A line on standard output, with the minutes since the beginning and the load of the machine."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    sys.stdout.write(f"{(time.monotonic() - begin_s) / 60:6.1f} min  load {load:4.1f}  {text}\n")
    sys.stdout.flush()


def prepare(folder: Path, port: int) -> None:
    """A user's folder with the slow driver, the experiment and the bench."""
    (folder / "labctl.toml").write_text('path = ["."]\n')
    for name, text in {"drivers/slow_cryostat.py": DRIVER, "experiments/soak.py": EXPERIMENT}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    bench = (
        (ROOT / "configs" / "benches" / "sim_dot.yaml").read_text().replace("bench: sim_dot", "bench: soak")
    )
    instrument = (
        f"  cryostat: {{driver: 'drivers.slow_cryostat:SlowCryostat', address: 'tcp://127.0.0.1:{port}'}}"
    )
    benches = folder / "configs" / "benches"
    benches.mkdir(parents=True)
    (benches / "soak.yaml").write_text(bench.replace("instruments:\n", f"instruments:\n{instrument}\n"))


def one_run(folder: Path, wall_s: float, tally: Tally, chance: random.Random, begin_s: float) -> None:
    """One run with a cold cache, disturbed until it ends; its trips and its end are added to the tally."""
    with tempfile.TemporaryDirectory(prefix="labctl-numba-") as cache, (folder / "run.log").open("w+") as log:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": cache}
        engine = subprocess.Popen(
            [sys.executable, "-m", "labctl", "run", "soak", "--bench", "soak", "--speed", "1", "--json",
             "--set", f"duration={max(wall_s - 40, 5):.0f} s"],
            cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        next_word_s = time.monotonic() + 60
        while engine.poll() is None:
            time.sleep(chance.uniform(0.5, 4.0))
            disturb(chance.choice([engine.pid, guardian_of(engine.pid)]), tally)
            if time.monotonic() > next_word_s:
                next_word_s += 60
                say(begin_s, f"run {tally.runs + 1}, {tally.stops} stops, {len(tally.trips)} trips so far")
        log.seek(0)
        last = log.read().strip().splitlines()[-1:]
    tally.runs += 1
    tally.trips += [
        line for file in folder.glob("runs/*/*/guardian.jsonl") for line in file.read_text().splitlines()
    ]
    if engine.returncode:
        tally.failed.append(f"run {tally.runs} ended with {engine.returncode}: {last}")
    for file in folder.glob("runs/*/*/guardian.jsonl"):
        file.rename(file.with_suffix(".seen"))
    say(begin_s, f"run {tally.runs} ended with {engine.returncode}; {len(tally.trips)} trips so far")


def disturb(pid: int | None, tally: Tally) -> None:
    """Stop a process for 100 ms."""
    if pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STOP_S)
        os.kill(pid, signal.SIGCONT)
        tally.stops += 1


def guardian_of(engine_pid: int) -> int | None:
    """The guardian that watches an engine."""
    wanted = ["labctl.bench.guardian", "--engine", str(engine_pid)]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().decode().split("\0")
            if all(word in words for word in wanted):
                return int(entry.parent.name)
    return None


class _Slowly(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for _ in self.rfile:
            time.sleep(REPLY_S)
            with suppress(OSError):
                self.wfile.write(b"4.2\n")


@contextmanager
def cryostat() -> Iterator[int]:
    """A cryostat that takes its time; its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Slowly) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that never rest."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=burn, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    yield
    for worker in workers:
        worker.kill()


def burn() -> None:
    """Work without end."""
    if hasattr(os, "nice"):
        os.nice(LOAD_NICENESS)
    while True:
        json.dumps(list(range(1000)))


if __name__ == "__main__":
    sys.exit(main())
