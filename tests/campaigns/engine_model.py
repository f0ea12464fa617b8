"""Does any sequence of incidents break a rule of the engine? Many random sequences, on several processes.

    make model-test SEQUENCES=100000

Sequences are taken in batches, each from a seed of its own; the seed of a batch that fails is printed with
the shortest sequence found, and `--first SEED --sequences 1` repeats that batch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

BATCH = 500


def run_batch(batch_seed: int) -> str:
    """Take BATCH sequences; what went wrong, or ""."""
    from hypothesis import HealthCheck, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.runs.engine_model import EngineModel

    model = seed(batch_seed)(type("SeededEngineModel", (EngineModel,), {}))
    options = settings(
        max_examples=BATCH, stateful_step_count=4, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        run_state_machine_as_test(model, settings=options)
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        return f"{type(error).__name__}: {error}\n{notes}"
    return ""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first batch")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    options = parser.parse_args()
    seeds = range(options.first, options.first - (-options.sequences // BATCH))
    failed = 0
    begin_s = time.monotonic()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        batches = {pool.submit(run_batch, batch_seed): batch_seed for batch_seed in seeds}
        for done, batch in enumerate(as_completed(batches), start=1):
            if problem := batch.result():
                failed += 1
                sys.stdout.write(f"seed {batches[batch]}: {problem}\n")
            took_s = time.monotonic() - begin_s
            sys.stdout.write(f"{done * BATCH} sequences, {took_s:.0f} s, {failed} batches failed\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
