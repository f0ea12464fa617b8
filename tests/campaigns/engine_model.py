"""Does any sequence of incidents break a rule of the engine? Many random ones, on several processes.

    make model-test SEQUENCES=100000

A sequence is what happens to one process that takes a run or goes on with one. They are taken in batches,
each from a seed of its own; the seed of a batch that fails is printed with the shortest example found, and
`--first SEED --sequences 1` repeats that batch.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

BATCH = 200
"""Runs in a batch, of some sequences each."""


def run_batch(batch_seed: int) -> tuple[int, str]:
    """Take a batch: how many sequences that were, and what went wrong, or ""."""
    from hypothesis import HealthCheck, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.runs.engine_model import EngineModel

    before = EngineModel.sequences
    model = seed(batch_seed)(type("SeededEngineModel", (EngineModel,), {}))
    options = settings(
        max_examples=BATCH, stateful_step_count=5, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    problem = ""
    try:
        run_state_machine_as_test(model, settings=options)
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        problem = f"{type(error).__name__}: {error}\n{notes}"
    return EngineModel.sequences - before, problem


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=100_000, help="at least so many")
    parser.add_argument("--first", type=int, default=0, help="seed of the first batch")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    options = parser.parse_args()
    seeds = itertools.count(options.first)
    taken = failed = 0
    begin_s = time.monotonic()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        while taken < options.sequences:
            batch = list(itertools.islice(seeds, options.jobs))
            for batch_seed, (count, problem) in zip(batch, pool.map(run_batch, batch), strict=True):
                taken += count
                failed += bool(problem)
                if problem:
                    sys.stdout.write(f"seed {batch_seed}: {problem}\n")
            took_s = time.monotonic() - begin_s
            sys.stdout.write(f"{taken} sequences, {took_s:.0f} s, {failed} batches failed\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
