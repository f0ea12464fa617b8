"""The kill matrix: every way to die in every phase of a run, many times.

    make kill-test REPEATS=20

Results are appended to a file as they come, so that an interrupted matrix goes on where it stopped; results
of another commit do not count. At the end a table says how many trials of each cell passed, and every failure
is listed with the folder where its evidence is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.kill.distributions import deaths, distribution, hangs
from tests.kill.harness import ROOT, run_trial
from tests.kill.trial import KINDS, PHASES, Result, Trial, all_trials
from tests.kill.world import World


def present_commit() -> str:
    """The commit under test, with a digest of what is not committed."""
    described = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    if not described.endswith("-dirty"):
        return described
    changes = subprocess.run(["git", "-C", str(ROOT), "diff", "HEAD"], capture_output=True, check=True).stdout
    hashed = subprocess.run(
        ["git", "-C", str(ROOT), "hash-object", "--stdin"], input=changes, capture_output=True, check=True
    )
    return f"{described}-{hashed.stdout.decode().strip()[:8]}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def read_results(file: Path, commit: str) -> list[Result]:
    """The results of this commit, oldest first."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    results = [Result.from_json(json.loads(line)) for line in lines if line.endswith("}")]
    return [result for result in results if result.commit == commit]


def run_all(trials: Iterable[Trial], folder: Path, commit: str, workers: int = 1) -> list[Result]:
    """Carry out the trials, some at a time, each worker with a twin of its own; results go to the file."""
    waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    for trial in trials:
        waiting.put(trial)
    results: list[Result] = []
    writing = threading.Lock()

    def keep(result: Result) -> None:
        result.commit = commit
        with writing, results_file(folder).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result.to_json()) + "\n")
            results.append(result)
            _tell(f"{len(results):5d} {'' if result.passed else 'FAILED '}{result.trial.key}\n")

    worlds = [World(folder / f"world{number}", seed=number) for number in range(workers)]
    worlds[0].warm()

    def work(number: int, world: World) -> None:
        try:
            while not waiting.empty():
                trial = waiting.get()
                keep(run_trial(trial, world, folder / f"worker{number}" / trial.key))
        finally:
            world.close()

    threads = [threading.Thread(target=work, args=numbered) for numbered in enumerate(worlds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def results_file(folder: Path) -> Path:
    """Where the results of a matrix are kept."""
    return folder / "results.jsonl"


def table(results: Iterable[Result]) -> str:
    """Passed / total by way to die (rows) and phase (columns)."""
    cells: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for result in results:
        cells[result.trial.kind, result.trial.phase].append(result.passed)
    lines = ["".join([f"{'':14s}", *(f"{phase:>14s}" for phase in PHASES)])]
    for kind in KINDS:
        shown = [_cell(cells[kind, phase]) for phase in PHASES]
        lines.append("".join([f"{kind:14s}", *(f"{text:>14s}" for text in shown)]))
    return "\n".join(lines) + "\n"


def _cell(passed: list[bool]) -> str:
    return f"{sum(passed)}/{len(passed)}" if passed else "-"


def failures(results: Iterable[Result]) -> str:
    """What failed, and where to look."""
    return "".join(
        f"{result.trial.key}: {result.evidence}\n" + "".join(f"    {text}\n" for text in result.failures)
        for result in results
        if not result.passed
    )


def times(results: Sequence[Result]) -> str:
    """How soon it was dark; only shown here, since trials at the same time slow each other down."""
    return distribution("death to dark", deaths(results)) + distribution(
        "hang to dark, beyond its limit", hangs(results)
    )


def _tell(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20, help="trials of each cell")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1), help="trials at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/kill"), help="where results are kept")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, help="ways to die")
    parser.add_argument("--phases", nargs="*", default=PHASES, choices=PHASES, help="phases")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        results_file(options.folder).unlink(missing_ok=True)
    commit = present_commit()
    earlier = read_results(results_file(options.folder), commit)
    known = {result.trial for result in earlier}
    wanted = {
        trial for trial in all_trials(options.repeats)
        if trial.kind in options.kinds and trial.phase in options.phases
    }  # fmt: skip
    todo = [trial for trial in all_trials(options.repeats) if trial in wanted - known]
    _tell(f"{len(todo)} trials to do, {len(wanted & known)} done before at {commit}\n")
    results = [*earlier, *run_all(todo, options.folder.resolve(), commit, options.workers)]
    counted = [result for result in results if result.trial in wanted]
    _tell(failures(counted) + table(counted) + times(counted))
    _tell(f"{sum(r.passed for r in counted)} of {len(counted)} passed\n")
    return 0 if counted and all(result.passed for result in counted) else 1


if __name__ == "__main__":
    sys.exit(main())
