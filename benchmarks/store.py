"""What it costs to keep data: rows, tags, the end of a run, its recovery, beside what the disk can do.

Row cost is the median over single commits (one row of four values, two audit entries, flush). Tag journaling
is measured with one `fdatasync` per second, right after a plain file of the same size was written with the
same rhythm. CPU time is given beside wall time, for machines that do other things too.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Bar, Report
from labctl.store import RunWriter, finish_journal
from labctl.timetags.block import TagBlock

GB = 1e9
ROWS = 5000
REPEATS = 3
LARGE, SMALL = 1_000_000, 310
CHANNELS = {1: "A", 2: "B", 3: "C", 4: "D"}
UNBOUNDED = {"segment_limit": 1 << 40, "patience_s": 3600.0}


@dataclass(frozen=True)
class Rate:
    """Tags per second of wall time and of CPU time, bytes per second and bits per tag."""

    tags_per_s: float
    tags_per_cpu_s: float
    bytes_per_s: float
    bits_per_tag: float


def main() -> Report:
    """Measure, print, return the figures."""
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as name:
        report = _measure(Path(name))
    report.show()
    return report


def _measure(root: Path) -> Report:
    row_us, audit_us = min(row_cost_us(root) for _ in range(REPEATS)), audit_cost_us(root)
    pairs = [(disk_speed(root), tag_rate(root, LARGE, 100_000_000)) for _ in range(REPEATS)]
    disk, large = max(pairs, key=lambda pair: pair[1].tags_per_s)
    small = max((tag_rate(root, SMALL, 1_000_000) for _ in range(REPEATS)), key=lambda rate: rate.tags_per_s)
    chunk_bits = bits_in_file(root)
    finish_s, finish_gb = finishing(root, crash=False)
    recovery_s, recovery_gb = finishing(root, crash=True)
    mtags, share = large.tags_per_s / 1e6, large.bytes_per_s / disk
    return Report(
        "what it costs to keep data",
        ("", "figure", "unit"),
        [
            ("row, two audit entries, flush (median)", row_us, "us"),
            ("audit entry", audit_us, "us"),
            (f"tags in blocks of {LARGE}", mtags, "Mtags/s"),
            ("  per second of CPU time", large.tags_per_cpu_s / 1e6, "Mtags/s"),
            ("  to the journal", large.bytes_per_s / 1e6, "MB/s"),
            ("  plain sequential writing in the same run", disk / 1e6, "MB/s"),
            ("  in the journal", large.bits_per_tag, "bit per tag"),
            ("  in the run file, 4 channels at 1 Mcps", chunk_bits, "bit per tag"),
            (f"tags in blocks of {SMALL}", small.tags_per_s / 1e6, "Mtags/s"),
            ("  per second of CPU time", small.tags_per_cpu_s / 1e6, "Mtags/s"),
            (f"finishing {finish_gb:.2f} GB", finish_s, "s"),
            (f"recovering {recovery_gb:.2f} GB", recovery_s, "s"),
        ],
        [
            Bar("row, two audit entries, flush", row_us, 15, "us"),
            Bar("time per tag over that at 60 Mtags/s or 80 % of the disk", min(60 / mtags, 0.8 / share), 1),
            Bar("bits per tag in the run file", chunk_bits, 22.8 + np.log2(len(CHANNELS)) + 0.3, "bit"),
            Bar("finishing", finish_s, 10 + 2 * finish_gb, "s"),
            Bar("recovery per GB", recovery_s / recovery_gb, 5, "s"),
        ],
        [f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"],
    )


@contextmanager
def _writer(root: Path, **options: float) -> Iterator[RunWriter]:
    writer = RunWriter.create(root, "store", {}, **options)
    try:
        yield writer
    finally:
        writer.close()
        shutil.rmtree(writer.directory)


def row_cost_us(root: Path) -> float:
    """Median cost of committing a point."""
    costs = []
    units = {"delay": "s", "rate": "1/s", "rate_error": "1/s"}
    with _writer(root) as writer:
        for index in range(ROWS):
            values = {"delay": index * 1e-12, "rate": 3e4, "rate_error": 170.0, "reference": False}
            begin_s = time.perf_counter()
            writer.audit("stage", "position", 1e-3 * index, 1.0)
            writer.audit("laser", "power", 5e-3, 1.0)
            writer.row("delays", index, 0, values, units, 1.0)
            writer.flush()
            costs.append(time.perf_counter() - begin_s)
    return statistics.median(costs) * 1e6


def audit_cost_us(root: Path) -> float:
    """Median cost of noting a parameter that was set."""
    costs = []
    with _writer(root) as writer:
        for _ in range(ROWS):
            begin_s = time.perf_counter()
            writer.audit("laser", "power", 5e-3, 1.0)
            costs.append(time.perf_counter() - begin_s)
    return statistics.median(costs) * 1e6


def poisson_blocks(size: int, count: int) -> list[TagBlock]:
    """Blocks of Poisson tags at 1 Mcps on four equally frequent channels; seed 0."""
    rng = np.random.default_rng(0)
    times_ps = np.cumsum(np.rint(rng.exponential(1e6, (count, size))).astype(np.int64)).reshape(count, size)
    channels = rng.choice(list(CHANNELS), (count, size)).astype(np.int32)
    return [TagBlock(t, c, int(t[0]), int(t[-1]) + 1) for t, c in zip(times_ps, channels, strict=True)]


def tag_rate(root: Path, size: int, total: int) -> Rate:
    """How fast tags in blocks of `size` go to the journal, until the last one is durable."""
    blocks = poisson_blocks(size, max(8, 100_000 // size))
    with _writer(root, sync_period_s=1.0, **UNBOUNDED) as writer:
        number = writer.begin_acquisition(CHANNELS, "s", 0, 0.0)
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        for k in range(total // size):
            writer.tags(number, blocks[k % len(blocks)])
        writer.flush(durable=True)
        wall_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
        nbytes, tags = (writer.directory / "run.journal").stat().st_size, total // size * size
    return Rate(tags / wall_s, tags / cpu_s, nbytes / wall_s, 8 * nbytes / tags)


def disk_speed(root: Path, size: int = 320 << 20) -> float:
    """Bytes per second of plain sequential writing with one `fdatasync` per second."""
    data, path = os.urandom(4 << 20), root / "plain"
    with path.open("wb", buffering=0) as file:
        begin_s = synced_s = time.perf_counter()
        for _ in range(size // len(data)):
            file.write(data)
            if time.perf_counter() - synced_s > 1.0:
                os.fdatasync(file.fileno())
                synced_s = time.perf_counter()
        os.fdatasync(file.fileno())
        wall_s = time.perf_counter() - begin_s
    path.unlink()
    return size / wall_s


def bits_in_file(root: Path) -> float:
    """Bits per tag of everything in the run file of a long acquisition."""
    with _writer(root) as writer:
        number = writer.begin_acquisition(CHANNELS, "s", 0, 0.0)
        blocks = poisson_blocks(LARGE, 8)
        for block in blocks:
            writer.tags(number, block)
        return 8 * writer.finish("success").stat().st_size / sum(map(len, blocks))


def finishing(root: Path, *, crash: bool) -> tuple[float, float]:
    """Seconds to complete the run file from a journal of about 1 GB, and the size of the journal in GB."""
    with _writer(root, **UNBOUNDED) as writer:
        number = writer.begin_acquisition(CHANNELS, "s", 0, 0.0)
        blocks = poisson_blocks(LARGE, 8)
        while (size := (writer.directory / "run.journal").stat().st_size) < GB:
            for block in blocks:
                writer.tags(number, block)
            writer.flush(durable=True)
        begin_s = time.perf_counter()
        if crash:
            writer.close()
            begin_s = time.perf_counter()
            finish_journal(writer.directory)
        else:
            writer.finish("success")
        return time.perf_counter() - begin_s, size / GB


if __name__ == "__main__":
    main()
