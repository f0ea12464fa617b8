"""One stream of tags as it comes from a tagger: blocks of 20 ms, five accumulators, snapshots meanwhile.

Measured: how much of the time that the tags took the processor needs for them; how long a reader waits for a
snapshot while tags pour in as fast as they are counted; memory over a record ten times as long.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from benchmarks.report import Bar, Report
from labctl.timetags import Coincidences, Correlation, DecayHistogram, IntensityTrace, Pipeline, TagBlock

BLOCK_PS = 20_000_000_000
PERIOD_PS = 50_000
SYNC = 3
REPEATS = 3
SEED = 2


def blocks(rate_hz: float, n_blocks: int, sync_period_ps: int | None) -> list[TagBlock]:
    """Poisson tags on channels 0, 1 and 2, `rate_hz` together, and sync tags if asked for."""
    rng = np.random.default_rng(SEED)
    made = []
    for k in range(n_blocks):
        begin, end = k * BLOCK_PS, (k + 1) * BLOCK_PS
        photons = rng.integers(begin, end, rng.poisson(rate_hz * BLOCK_PS * 1e-12))
        syncs = np.arange(begin, end, sync_period_ps) if sync_period_ps else np.empty(0, np.int64)
        times = np.concatenate([photons, syncs])
        channels = np.concatenate([rng.integers(0, 3, photons.size), np.full(syncs.size, SYNC)])
        order = np.argsort(times, kind="stable")
        made.append(TagBlock(times[order], channels[order].astype(np.int32), begin, end))
    return made


def five(threads: int) -> Pipeline:
    """Two correlations at +-10 ns, a trace, a decay, and coincidences."""
    return Pipeline(
        Correlation((0, 1), 10_000, 100),
        Correlation((1, 2), 10_000, 100),
        IntensityTrace((0, 1, 2), 10**9),
        DecayHistogram(0, SYNC, 100, PERIOD_PS, sync_follows=False),
        Coincidences((0, 1, 2), 1_000),
        threads=threads,
    )


def mtags_per_s(stream: list[TagBlock], threads: int, clock: Callable[[], float]) -> float:
    """Best of several passes of five accumulators over the stream, by this clock."""
    n = sum(len(block) for block in stream)
    best_s = float("inf")
    for _ in range(REPEATS + 1):  # the first one compiles
        pipeline = five(threads)
        begin_s = clock()
        for block in stream:
            pipeline.update(block)
        best_s = min(best_s, clock() - begin_s)
    return n / best_s * 1e-6


def share_of_a_core() -> float:
    """Processor time over stream time for 10 Mcps, all pairs at +-100 ns."""
    stream = blocks(10e6, 20, None)
    best_s = float("inf")
    for _ in range(REPEATS + 1):
        correlation = Correlation((0, 1, 2))
        begin_s = time.process_time()
        for block in stream:
            correlation.update(block)
        best_s = min(best_s, time.process_time() - begin_s)
    return best_s / (len(stream) * BLOCK_PS * 1e-12)


def snapshot_waits_ms() -> np.ndarray:
    """How long snapshots took, in ms, while another thread ingested without a pause."""
    stream = blocks(10e6, 50, None)
    correlation = Correlation((0, 1, 2))
    done = threading.Event()

    def ingest() -> None:
        for block in stream:
            correlation.update(block)
        done.set()

    ingesting = threading.Thread(target=ingest)
    ingesting.start()
    waits = []
    while not done.is_set():
        begin_s = time.perf_counter()
        correlation.snapshot()
        waits.append(time.perf_counter() - begin_s)
    ingesting.join()
    return np.array(waits) * 1e3


def memory_growth_mb() -> float:
    """Growth of the peak memory while a record ten times as long as one before is correlated."""
    first, *_ = blocks(10e6, 1, None)
    correlation = Correlation((0, 1, 2))
    peaks = []
    for repeats in (10, 100):
        for _ in range(repeats):
            begin = 0 if correlation.live_time_ps == 0 else correlation.live_time_ps
            times = first.times_ps + begin
            correlation.update(TagBlock(times, first.channels, begin, begin + BLOCK_PS))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return (peaks[1] - peaks[0]) / unit


def main() -> Report:
    """Measure and print."""
    growth = memory_growth_mb()
    stream = blocks(70e6, 5, PERIOD_PS)
    one, two = mtags_per_s(stream, 1, time.process_time), mtags_per_s(stream, 2, time.perf_counter)
    share = share_of_a_core()
    waits = snapshot_waits_ms()
    report = Report(
        "A live stream in blocks of 20 ms",
        ("what", "figure", "unit"),
        [
            ("five accumulators, one thread, processor time", one, "Mtags/s"),
            ("five accumulators, two threads, wall time", two, "Mtags/s"),
            ("10 Mcps, all pairs of three channels at +-100 ns", 100 * share, "% of a core"),
            ("snapshot while ingesting, median", float(np.median(waits)), "ms"),
            ("snapshot while ingesting, 99 %", float(np.quantile(waits, 0.99)), "ms"),
            ("memory, ten times the record", growth, "MB more"),
        ],
        [
            Bar("five accumulators, processor time of one of two cores", 1e3 / one, 1e3 / 45, "ns/tag"),
            Bar("five accumulators, two threads, wall time", 1e3 / two, 1e3 / 90, "ns/tag"),
            Bar("10 Mcps at +-100 ns", 100 * share, 15, "% of a core"),
            Bar("snapshot while ingesting, 99 %", float(np.quantile(waits, 0.99)), 50, "ms"),
            Bar("memory for ten times the record", growth, 64, "MB"),
        ],
    )
    report.show()
    return report


if __name__ == "__main__":
    main()
