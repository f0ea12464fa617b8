"""Tag correlation beside its peers: Mtags/s on the same Poisson tags, each engine in a process of its own.

Peers live in environments of their own and get the tags as files: split by channel beforehand those that want
it so, a PTU file the one that reads nothing else. Times are the processor's, the best of several turns after
one that compiles.
What is slow gets only the first part of the tags, and one turn.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers import environment
from benchmarks.report import Bar, Report
from benchmarks.tag_file import write_t2

N_TAGS = 10_000_000
REPEATS = 5
DENSITIES = (0.1, 1.0, 10.0)
"""Pairs per tag over all ordered pairs within +-100 ns, half of them at positive lags."""
WINDOW_PS = 100_000
PEERS = Path(__file__).parent / "peers"
SEED = 1


@dataclass(frozen=True)
class Engine:
    """One row: the script that serves it, its environment (None: this one), and its share of the tags."""

    name: str
    script: str
    task: str = ""
    peer: str | None = None
    share: float = 1.0


PAIR_ENGINES = (
    Engine("labctl, all pairs", "tags_labctl.py", "pairs"),
    Engine("labctl, PTU to all pairs", "tags_labctl.py", "file"),
    Engine("PyTimeTag, one pair", "tags_pytimetag.py", peer="pytimetag"),
    Engine("trattoria, PTU to one pair", "tags_trattoria.py", peer="trattoria"),
    Engine("numpy, one pair", "tags_numpy.py"),
    Engine("pycorrelate, one pair", "tags_pycorrelate.py", peer="pycorrelate"),
    Engine("tttrlib, positive lags of one pair", "tags_tttrlib.py", "linear", "tttrlib", 0.1),
)
WIDE_ENGINES = (
    Engine("labctl, exact", "tags_labctl.py", "log"),
    Engine("labctl, multi-tau", "tags_labctl.py", "multi-tau"),
    Engine("tttrlib wahl", "tags_tttrlib.py", "wide", "tttrlib", 0.1),
    Engine("multipletau, trace of 1 us", "tags_multipletau.py", peer="multipletau"),
)


def make_tags(folder: Path, density: float, n: int) -> None:
    """Poisson tags on channels 0 and 1 with `density` pairs per tag; the whole and all shares as PTU."""
    rng = np.random.default_rng(SEED)
    times = np.cumsum(rng.exponential(WINDOW_PS / density, n)).astype(np.int64)
    channels = rng.integers(0, 2, n).astype(np.int32)
    np.save(folder / "times.npy", times)
    np.save(folder / "channels.npy", channels)
    write_t2(folder / f"tags_{n}.ptu", times, channels)


def speed(engine: Engine, folder: Path, n: int) -> tuple[str, float]:
    """Version and Mtags/s of one engine; RuntimeError when it does not answer."""
    python = sys.executable if engine.peer is None else str(environment.python_of(engine.peer))
    command = [python, str(PEERS / engine.script), str(folder), engine.task]
    number = max(int(engine.share * n), 1)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        version = _answer(process)
        _seconds(process, number)  # compiles, and prepares the data
        repeats = REPEATS if engine.share == 1.0 else 1
        best_s = min(_seconds(process, number) for _ in range(repeats))
    return version, number / best_s * 1e-6


def _seconds(process: subprocess.Popen[str], n: int) -> float:
    assert process.stdin is not None
    process.stdin.write(f"{n}\n")
    process.stdin.flush()
    return float(_answer(process))


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the measuring process ended with {process.wait()}")
    return line.strip()


def table(title: str, engines: tuple[Engine, ...], densities: tuple[float, ...], n: int) -> Report:
    """All engines at all densities; ratios are those of the first engine over each."""
    found: dict[str, list[str | float]] = {engine.name: [] for engine in engines}
    versions = dict.fromkeys(found, "")
    for density in densities:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
            make_tags(Path(name), density, n)
            for engine in engines:
                try:
                    versions[engine.name], rate = speed(engine, Path(name), n)
                    found[engine.name].append(rate)
                except (RuntimeError, subprocess.CalledProcessError) as error:
                    found[engine.name].append(f"failed: {error}"[:40])
    ours = found[engines[0].name]
    rows: list[tuple[str | float, ...]] = [
        (name, versions[name], *rates, *map(_ratio, ours, rates)) for name, rates in found.items()
    ]
    columns = ("engine", "version", *(f"{d:g}" for d in densities), *(f"ratio at {d:g}" for d in densities))
    return Report(f"{title}: Mtags/s at so many pairs per tag in 100 ns, {n:.3g} tags", columns, rows)


def _ratio(ours: str | float, theirs: str | float) -> str | float:
    return ours / theirs if isinstance(ours, float) and isinstance(theirs, float) else "-"


def _bars(rows: list[tuple[str | float, ...]]) -> list[Bar]:
    """The bars of the linear correlation: ns per tag, and our time over that of the peers."""
    rates = {str(row[0]): row[2 : 2 + len(DENSITIES)] for row in rows}
    bars = []
    for name, limits in (("labctl, all pairs", (500, 140, 75)), ("labctl, PTU to all pairs", (250, 110))):
        for density, limit, rate in zip(DENSITIES, limits, rates[name], strict=False):
            bars.append(Bar(f"{name} at {density:g} pairs/tag", 1e3 / float(rate), 1e3 / limit, "ns/tag"))
    for peer, factors in (
        ("pycorrelate, one pair", (25, 25, 12)),
        ("PyTimeTag, one pair", (1, 1, 1)),
        ("trattoria, PTU to one pair", (1, 1, 1)),
        ("numpy, one pair", (1, 1, 1)),
    ):
        for density, factor, ours, theirs in zip(
            DENSITIES, factors, rates["labctl, all pairs"], rates[peer], strict=True
        ):
            if isinstance(theirs, float):
                text = f"labctl's time over that of {peer} at {density:g} pairs/tag"
                bars.append(Bar(text, theirs / float(ours), 1 / factor))
    return bars


def main() -> Report:
    """Measure and print."""
    pairs = table("Linear correlation, +-100 ns in bins of 1 ns", PAIR_ENGINES, DENSITIES, N_TAGS)
    report = Report(
        pairs.title,
        pairs.columns,
        pairs.rows,
        _bars(pairs.rows),
        ["labctl does all four ordered pairs of two channels with exact bins, its peers one pair each."],
    )
    report.show()
    table("Lags from 1 ns to 1 s, 10 or 16 bins per step", WIDE_ENGINES, (0.1, 1.0), N_TAGS // 2).show()
    return report


if __name__ == "__main__":
    main()
