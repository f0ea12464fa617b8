"""Kill a run at every moment, and cut its power: is everything there that was said to be safe?

    make crash-test

The steps of a reference run (journal, sealed tag files, HDF5 files, its end, its resumption) are recorded and
replayed up to a cut: between any two steps, and inside writes. What is then on the disk is recovered and
compared with what the run had been told to be acknowledged. For a power cut the disk keeps what was synced
and a random part of the rest, and what was durable must be there. Not covered: the order in which HDF5 would
write through its own driver, and what a disk does that lies about having synced.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.store.crashmodel import Disk, Step, check, record


@dataclass
class Outcome:
    """How many cuts and losses were made, and what went wrong."""

    steps: int
    cuts: int
    inside: int
    losses: int
    failures: list[str]


def cut_points(steps: list[Step], wanted: int, rng: random.Random) -> list[tuple[int, int]]:
    """(whole steps, bytes of the next one): every boundary if `wanted` allows, the rest inside writes."""
    boundaries = [(number, 0) for number in range(len(steps) + 1)]
    if wanted <= len(boundaries):
        return sorted(rng.sample(boundaries, wanted))
    writes = [n for n, step in enumerate(steps) if step.call == "write" and len(step.arguments[2]) > 1]
    inside = []
    for _ in range(wanted - len(boundaries)):
        number = rng.choice(writes)
        inside.append((number, rng.randrange(1, len(steps[number].arguments[2]))))
    return sorted(boundaries + inside)


def explore(steps: list[Step], cuts: int, losses: int, seed: int = 0) -> Outcome:
    """Make the cuts and the power losses, and check each."""
    rng = random.Random(seed)
    points = [(*point, False) for point in cut_points(steps, cuts, rng)]
    points += [(rng.randrange(len(steps) + 1), 0, True) for _ in range(losses)]
    outcome = Outcome(len(steps), cuts, sum(1 for point in points if point[1]), losses, [])
    disk, done = Disk(), 0
    for number, inside, power in sorted(points):
        for step in steps[done:number]:
            disk.apply(step)
        done = number
        with tempfile.TemporaryDirectory(dir=_fast_folder()) as name:
            folder = Path(name)
            if power:
                disk.put_after_power_cut(folder, rng)
            else:
                disk.put(folder)
                _put_torn_write(disk, steps, number, inside, folder)
            try:
                check(folder, disk.durable if power else disk.acknowledged)
            except Exception as error:  # every failure is wanted
                kind = "power loss" if power else "cut"
                where = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__} in {where.line}: {error}"
                outcome.failures.append(f"{kind} at {number}+{inside}: {what}")
    return outcome


def _put_torn_write(disk: Disk, steps: list[Step], number: int, inside: int, folder: Path) -> None:
    if not inside:
        return
    file, offset, data = steps[number].arguments
    for name, other in disk.names.items():
        if other == file:
            content = disk.files[file].content
            begin = bytes(content[:offset]).ljust(offset, b"\0")
            (folder / name).write_bytes(begin + data[:inside] + content[offset + inside :])


def _fast_folder() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def main() -> None:
    """Explore and print a summary; exit 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--losses", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        steps = record(Path(root))
    calls = Counter(step.call for step in steps)
    kinds = ", ".join(f"{count} {call}" for call, count in sorted(calls.items()))
    sys.stdout.write(f"{len(steps)} steps: {kinds}\n")
    begin_s = time.monotonic()
    outcome = explore(steps, arguments.cuts, arguments.losses, arguments.seed)
    for failure in outcome.failures[:20]:
        sys.stdout.write(f"{failure}\n")
    sys.stdout.write(
        f"{outcome.cuts} cuts ({outcome.inside} inside writes) and {outcome.losses} power losses: "
        f"{len(outcome.failures)} failures in {time.monotonic() - begin_s:.0f} s\n"
    )
    sys.exit(bool(outcome.failures))


if __name__ == "__main__":
    main()
