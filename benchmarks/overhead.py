"""Overhead per point on the bench `sim_dot` at a dwell of 1 ms: what is left when link I/O is taken off.

A whole run on the twin: real drivers, sockets and pseudo-terminals, the journal, the guardian. At every point
the delay is set, tags are acquired for 1 ms and a row is committed. Three kinds of time are stopped apart:
instruments on links, the tagger's library, and the control port of the twin, which on a real bench does not
exist. The rest of the wall time is the engine's.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from benchmarks.report import Bar, Report
from drivers.taggers.swabian_timetagger import SwabianTimeTagger
from labctl.bench.twin_client import TwinClient
from labctl.instruments.capabilities import Delay, PulsedSource, TimeTagger
from labctl.instruments.link import Link
from labctl.runs import Experiment, Run
from labctl.runs.execute import take_run
from labctl.sweeps import Axis, Linear

ROUNDS, POINTS = 3, 200
UNCOUNTED = 10
"""Points at the beginning of a round, in which kernels are compiled and caches filled."""
DWELL_S = 1e-3
LIMIT_MS = 1.0
WATCHED: dict[str, tuple[type, tuple[str, ...]]] = {
    "links": (Link, ("send", "query", "receive", "resynchronise")),
    "tagger library": (SwabianTimeTagger, ("_call",)),
    "twin control": (TwinClient, ("advance", "wait_until", "time_ps", "truth", "hello")),
}


@dataclass
class Stopwatch:
    """Wall time that its own thread spends in watched calls, by kind; a call within a call counts once."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WATCHED, 0.0))
    thread: int = field(default_factory=threading.get_ident)
    busy: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Stop the time of everything in WATCHED while the block lasts."""
        with ExitStack() as stack:
            for kind, (owner, names) in WATCHED.items():
                for name in names:
                    stack.enter_context(
                        mock.patch.object(owner, name, self._stopped(kind, getattr(owner, name)))
                    )
            yield

    def _stopped(self, kind: str, function: Any) -> Any:
        @functools.wraps(function)
        def stopped(*arguments: Any, **options: Any) -> Any:
            if self.busy or threading.get_ident() != self.thread:
                return function(*arguments, **options)
            self.busy, begin_s = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[kind] += time.perf_counter() - begin_s
                self.busy = False

        return stopped


STOPWATCH = Stopwatch()
TIMES: list[list[dict[str, float]]] = []
"""By round, at the beginning of each point: the wall time and the stopwatch."""


class ShortPoints(Experiment):
    """Many short points: set a delay, count for a millisecond, record."""

    name: ClassVar[str] = "short_points"
    roles: ClassVar[dict[str, type]] = {"tagger": TimeTagger, "delay": Delay, "diode": PulsedSource}
    records: ClassVar[dict[str, str]] = {"rate": "1/s"}

    def duration_s(self) -> float:
        return ROUNDS * POINTS * DWELL_S

    def run(self, run: Run) -> None:
        run.bench.diode.synchronised(True)
        for number in range(ROUNDS):
            TIMES.append([])
            for point in run.sweep(f"round_{number}", delay=Axis((Linear(0.0, 300e-9, POINTS),), "s")):
                TIMES[-1].append({"wall": time.perf_counter(), **STOPWATCH.seconds})
                run.bench.delay.delay(point.delay)
                tags = run.acquire(run.bench.tagger, DWELL_S, channels=[1, 2])
                point.record(rate=tags.rate(1, 2))


def measure() -> Report:
    """One run on a fresh twin."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as root, STOPWATCH.watching():
        take_run(ShortPoints(), "sim_dot", root=Path(root))
    best = min((_by_part(times) for times in TIMES), key=lambda parts: statistics.fmean(parts["engine"]))
    return Report(
        f"Time per point on sim_dot, dwell {DWELL_S * 1e3:g} ms: best of {ROUNDS} rounds of {POINTS} points",
        ("part", "median / ms", "mean / ms", "90 % / ms"),
        [
            (part, statistics.median(ms), statistics.fmean(ms), sorted(ms)[round(0.9 * (len(ms) - 1))])
            for part, ms in best.items()
        ],
        [Bar("engine, mean per point", statistics.fmean(best["engine"]), LIMIT_MS, "ms")],
        ["wall = links + tagger library + twin control + engine"],
    )


def _by_part(times: list[dict[str, float]]) -> dict[str, list[float]]:
    """What each point of a round took in ms, by part."""
    counted = list(itertools.pairwise(times[UNCOUNTED:]))
    spent = {part: [(after[part] - before[part]) * 1e3 for before, after in counted] for part in times[0]}
    watched = zip(*(spent[part] for part in WATCHED), strict=True)
    spent["engine"] = [wall - sum(io) for wall, io in zip(spent["wall"], watched, strict=True)]
    return spent


def main() -> Report:
    """Measure and print."""
    report = measure()
    report.show()
    return report


if __name__ == "__main__":
    main()
