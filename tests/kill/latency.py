"""How soon it is dark: a serial series of trials on a machine whose cores are all busy.

    make kill-latency

Death (SIGKILL, a crash, `_exit`) to dark: p99 <= 0.5 s, worst <= 2 s. Hang (a deadlock, a call that holds the
interpreter, SIGSTOP) to dark: at most 0.5 s beyond the time by which the engine had promised its next beat.
Times are of the wall, to the first look through the control port (every 4 ms) that finds no light.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path

from tests.kill.distributions import deaths, distribution, hangs, histogram, quantile
from tests.kill.matrix import failures, present_commit, results_file, run_all
from tests.kill.trial import DEATHS, HANGS, LIT, Trial
from tests.load import busy_cores

DEATH_P99_S = 0.5
DEATH_WORST_S = 2.0
HANG_BEYOND_LIMIT_S = 0.5
DEATHS_PER_HANG = 3


def series(count: int) -> list[Trial]:
    """Three deaths to each hang, over all phases with light."""
    dying, hanging = cycle(product(LIT, DEATHS)), cycle(product(LIT, HANGS))
    cells = [next(hanging if n % (DEATHS_PER_HANG + 1) == DEATHS_PER_HANG else dying) for n in range(count)]
    return [Trial(kind, phase, repeat) for repeat, (phase, kind) in enumerate(cells)]


def verdict(dying: Sequence[float], hanging: Sequence[float]) -> list[str]:
    """Which limits were not kept."""
    broken = []
    if dying and quantile(dying, 0.99) > DEATH_P99_S:
        broken.append(f"death to dark: p99 above {DEATH_P99_S:g} s")
    if dying and max(dying) > DEATH_WORST_S:
        broken.append(f"death to dark: worst above {DEATH_WORST_S:g} s")
    if hanging and max(hanging) > HANG_BEYOND_LIMIT_S:
        broken.append(f"hang to dark: more than {HANG_BEYOND_LIMIT_S:g} s beyond its limit")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="trials, one after the other")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/kill-latency"), help="where results are kept"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    results_file(options.folder).unlink(missing_ok=True)
    with busy_cores():
        results = run_all(series(options.count), options.folder.resolve(), present_commit())
    dying, hanging = deaths(results), hangs(results)
    broken = verdict(dying, hanging)
    sys.stdout.write(failures(results))
    sys.stdout.write(distribution("death to dark", dying) + histogram(dying))
    sys.stdout.write(distribution("hang to dark, beyond its limit", hanging) + histogram(hanging))
    sys.stdout.write("".join(f"{text}\n" for text in broken) or "all limits are kept\n")
    return 0 if not broken and all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
