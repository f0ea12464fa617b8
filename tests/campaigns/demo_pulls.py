"""Is the demo honest? Run it over many seeds and compare its estimates with the hidden truth.

    make campaign SEEDS=100

Each seed is one `labctl demo` in a process of its own; results are kept, so an interrupted campaign goes
on where it stopped. For every quantity the table shows how often the stated errors are right: mean and
rms of the pulls, the largest one, and the mean stated error over the real scatter. The campaign fails
when an rms leaves 0.8-1.2, a pull exceeds 4 or a mean error leaves 0.7-1.4 times the scatter.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

RMS_LIMITS = (0.8, 1.2)
LARGEST_PULL = 4.0
ERROR_LIMITS = (0.7, 1.4)


@dataclass(frozen=True)
class Summary:
    """Pulls and errors of one quantity over all seeds."""

    quantity: str
    n: int
    mean: float
    rms: float
    largest: float
    scatter: float
    error: float

    @property
    def honest(self) -> bool:
        """Whether pulls and errors keep their limits."""
        within = RMS_LIMITS[0] <= self.rms <= RMS_LIMITS[1] and self.largest <= LARGEST_PULL
        return within and ERROR_LIMITS[0] <= self.error / self.scatter <= ERROR_LIMITS[1]


def run_seed(seed: int, folder: Path) -> None:
    """One demo; its estimates are kept in `folder`, its runs are not."""
    result = folder / f"{seed}.json"
    if result.exists():
        return
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "labctl", "demo", "--seed", str(seed), "--json", "--out", runs]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"seed {seed}: {done.stderr.strip()}")
    result.write_text(json.dumps(json.loads(done.stdout)["estimates"]), encoding="utf-8")


def summarise(folder: Path) -> list[Summary]:
    """One line for each quantity whose truth is known."""
    rows = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            if row["pull"] is not None:
                rows[row["quantity"]].append(row)
    return [_summary(quantity, found) for quantity, found in rows.items()]


def _summary(quantity: str, rows: list[dict[str, float]]) -> Summary:
    pulls = [row["pull"] for row in rows]
    n = len(rows)
    return Summary(
        quantity,
        n,
        mean=sum(pulls) / n,
        rms=math.sqrt(sum(p * p for p in pulls) / n),
        largest=max(abs(p) for p in pulls),
        scatter=math.sqrt(sum((row["value"] - row["truth"]) ** 2 for row in rows) / n),
        error=sum(row["error"] for row in rows) / n,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="seeds 0..N-1")
    parser.add_argument("--jobs", type=int, default=2, help="demos at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/campaign"), help="where results are kept")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda seed: run_seed(seed, options.folder), range(options.seeds)))
    summaries = summarise(options.folder)
    sys.stdout.write("quantity                 seeds   mean    rms    max  error/scatter\n")
    for s in summaries:
        flag = "" if s.honest else "  <--"
        numbers = f"{s.n:5d} {s.mean:+6.2f} {s.rms:6.2f} {s.largest:6.2f} {s.error / s.scatter:8.2f}"
        sys.stdout.write(f"{s.quantity:24s} {numbers}{flag}\n")
    return 0 if all(s.honest for s in summaries) else 1


if __name__ == "__main__":
    sys.exit(main())
