"""Engine cost per point, beside QCoDeS and bluesky.

Everybody takes the same scan: two parameters in memory are set, two are read, one row is recorded. Each
framework runs in a process of its own, bluesky in an environment of its own, and they take turns. The cost
of a point is the time between a short and a long scan over the points between them, so that opening a run
costs nobody anything, and writing what was recorded costs everybody.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import environment
from benchmarks.report import Bar, Report

SHORT, LONG = 200, 2200
REPEATS = 7
LIMIT_US = 40.0
SHARE_OF_DOND, SHARE_OF_BLUESKY = 1 / 4, 1 / 20
PEERS = Path(__file__).parent / "peers"


@dataclass
class Subject:
    """A framework under measurement: the process that answers for it, and its costs so far."""

    name: str
    process: subprocess.Popen[str]
    version: str = ""
    costs_us: list[float] = field(default_factory=list)

    @property
    def best_us(self) -> float:
        """The lowest cost of a point."""
        return min(self.costs_us)

    def measure(self) -> None:
        """Take one short and one long scan."""
        short_s, long_s = self._seconds(SHORT), self._seconds(LONG)
        self.costs_us.append((long_s - short_s) / (LONG - SHORT) * 1e6)

    def read(self) -> str:
        """The next line of its answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: the measuring process ended with {self.process.wait()}")
        return line.strip()

    def _seconds(self, n: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return float(self.read())


def measure() -> Report:
    """All frameworks in turns."""
    python = sys.executable
    commands = {
        "labctl": [python, "-m", "benchmarks.engine_cost"],
        "QCoDeS Measurement": [python, str(PEERS / "qcodes_measurement.py")],
        "QCoDeS dond": [python, str(PEERS / "qcodes_dond.py")],
        "bluesky scan": [str(environment.python_of("bluesky")), str(PEERS / "bluesky_scan.py")],
    }
    with ExitStack() as stack:
        subjects = [_start(name, command, stack) for name, command in commands.items()]
        for subject in subjects:
            subject.version = subject.read()
        for _ in range(REPEATS):
            for subject in subjects:
                subject.measure()
        return _report(subjects)


def _start(name: str, command: list[str], stack: ExitStack) -> Subject:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    stack.enter_context(process)  # leaving closes its input, which ends it
    return Subject(name, process)


def _report(subjects: list[Subject]) -> Report:
    ours, _, dond, bluesky = (subject.best_us for subject in subjects)
    rows: list[tuple[str | float, ...]] = [
        (s.name, s.version, s.best_us, statistics.median(s.costs_us), s.best_us / ours) for s in subjects
    ]
    return Report(
        f"Engine cost per point: {REPEATS} times {LONG} points, two sets, two gets, one row",
        ("framework", "version", "best / µs", "median / µs", "best over labctl's"),
        rows,
        [
            Bar("labctl", ours, LIMIT_US, "µs"),
            Bar("labctl over QCoDeS dond", ours / dond, SHARE_OF_DOND),
            Bar("labctl over bluesky scan", ours / bluesky, SHARE_OF_BLUESKY),
        ],
        [
            "labctl's rows are acknowledged one by one: they survive the death of the process. "
            "QCoDeS keeps results in memory for seconds before it writes; bluesky writes nothing."
        ],
    )


def main() -> Report:
    """Measure and print."""
    report = measure()
    report.show()
    return report


if __name__ == "__main__":
    main()
