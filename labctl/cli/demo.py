"""`labctl demo`: three experiments on the simulated bench, their estimates beside the hidden truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from labctl.bench.bench import TwinOptions
from labctl.cli.output import estimate_table, print_json, print_text
from labctl.cli.runs import check_writable, terminal_progress
from labctl.runs.execute import Outcome, conclude, estimate_rows, find_experiment, take_run
from labctl.runs.experiment import Experiment

BENCH = "sim_dot"
EXPERIMENTS = ("delay_scan", "blinking_control", "hbt")


def run_demo(*, seed: int, as_json: bool, root: Path, speed: float | None, duration_s: float | None) -> None:
    """Run the three experiments one after the other and print one table.

    duration_s: bench time of all acquisitions together; the default is that of the experiments' defaults.
    """
    check_writable(root)
    concluded = []
    with ThreadPoolExecutor(max_workers=1) as pool:  # a run is analysed while the next one takes its data
        for number, experiment in enumerate(_experiments(duration_s)):
            twin = TwinOptions(seed=len(EXPERIMENTS) * seed + number, speed=speed)
            progress = terminal_progress(quiet=as_json)
            taken = take_run(
                experiment, BENCH, root=root, twin=twin, progress=progress, command="labctl demo"
            )
            concluded.append(pool.submit(conclude, taken))
            if taken.status != "success":
                break
    _report([future.result() for future in concluded], as_json=as_json)


def _experiments(duration_s: float | None) -> list[Experiment]:
    defaults = [find_experiment(name)() for name in EXPERIMENTS]
    if duration_s is None:
        return defaults
    factor = duration_s / sum(experiment.duration_s() for experiment in defaults)
    return [experiment.scaled(factor) for experiment in defaults]


def _report(outcomes: list[Outcome], *, as_json: bool) -> None:
    rows = [
        row
        for outcome in outcomes
        if outcome.analysis
        for row in estimate_rows(outcome.analysis, outcome.truth)
    ]
    files = [str(file) for outcome in outcomes for file in outcome.files]
    if as_json:
        print_json({"estimates": rows, "verdicts": _verdicts(outcomes), "files": files})
        return
    estimate_table("labctl demo: estimates and hidden truth", rows)
    for name, verdict in _verdicts(outcomes).items():
        print_text(f"{name}: {verdict}")
    for file in files:
        print_text(file)


def _verdicts(outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        name: outcome.analysis.verdict if outcome.analysis else f"{outcome.status}: {outcome.reason}"
        for name, outcome in zip(EXPERIMENTS, outcomes, strict=False)
    }
