"""`labctl run`, `show` and `plot`: make a run, look at a stored one."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from labctl.bench.bench import TwinOptions
from labctl.bench.config import load_bench
from labctl.cli.output import estimate_table, print_json, print_table, print_text
from labctl.cli.recovery import recover_dead_run, recover_dead_runs
from labctl.config_files import first_message
from labctl.errors import LabctlError
from labctl.loading import nearest
from labctl.quantities import format_quantity
from labctl.runs.execute import Outcome, analyse_run, estimate_rows, execute, find_experiment
from labctl.runs.experiment import Experiment
from labctl.settings import RunSettings
from labctl.store import RunData, finish_journal, list_runs, open_run

ABORTED_EXIT_CODE = 130
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


class ParameterError(LabctlError):
    """A parameter on the command line that the experiment does not accept."""


def run_experiment(
    name: str,
    bench: str,
    *,
    settings: list[str],
    seed: int,
    as_json: bool,
    root: Path,
    speed: float | None,
    twin_settings: list[str],
    labels: RunSettings,
) -> None:
    """Validate, run, analyse, print. Nothing is connected or written before the input is valid."""
    experiment = make_experiment(name, settings)
    config, file = load_bench(bench)
    if config.twin is None and (twin_settings or speed is not None):
        raise ParameterError(f"--twin-set and --speed need a bench with a twin; {file} has none")
    check_writable(root)
    twin = TwinOptions(seed=seed, overrides=parse_twin_settings(twin_settings), speed=speed)
    outcome = execute(
        experiment, bench, root=root, twin=twin, progress=terminal_progress(quiet=as_json),
        command=shlex.join(["labctl", *sys.argv[1:]]), labels=labels,
    )  # fmt: skip
    report(outcome, as_json=as_json)


def make_experiment(name: str, settings: list[str]) -> Experiment:
    """The experiment with parameters from texts `name=value`.

    Raises NotFound for an unknown experiment, ParameterError for an unknown or bad parameter.
    """
    experiment = find_experiment(name)
    values = dict(_split(setting) for setting in settings)
    for key in values:
        if key not in experiment.model_fields:
            raise ParameterError(f"{name} has no parameter {key!r}{nearest(key, experiment.model_fields)}")
    try:
        return experiment.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "parameters"
        bounds = {p.name: p.bounds for p in experiment.describe_parameters()}.get(key, "")
        allowed = f" (allowed: {bounds})" if bounds else ""
        problem = "is out of bounds" if first["type"] in _BOUNDS else first_message(error)
        raise ParameterError(
            f"{name}: {key} = {values.get(key, first['input'])!r}: {problem}{allowed}"
        ) from error


def parse_twin_settings(settings: list[str]) -> dict[str, Any]:
    """Texts `path=value` as numbers, booleans or text."""
    example = "--twin-set world.dot.tau_x_s=21e-9"
    return {path: _plain(value) for path, value in (_split(setting, example) for setting in settings)}


def check_writable(root: Path) -> None:
    """ParameterError when no run can be written under `root`; leaves nothing there."""
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise ParameterError(f"--out {root}: {existing} is a file; name a folder")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ParameterError(
            f"--out {root}: cannot write in {existing} ({error.strerror}); name another"
        ) from error


def terminal_progress(*, quiet: bool) -> Any:
    """A progress bar, or only what has to be said where a program reads the output."""
    from labctl.cli.progress import SaidOnly, TerminalProgress

    return SaidOnly() if quiet else TerminalProgress()


def report(outcome: Outcome, *, as_json: bool) -> None:
    """Print what a run found and where it is; a run that was stopped ends the program with code 130."""
    _print_outcome(outcome, as_json=as_json)
    if outcome.status == "abort":  # so that `labctl run a && labctl run b` does not go on to b
        raise typer.Exit(ABORTED_EXIT_CODE)


def _print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    rows = estimate_rows(outcome.analysis, outcome.truth) if outcome.analysis else []
    if as_json:
        print_json(_outcome_json(outcome, rows))
        return
    if outcome.analysis is None:
        goes_on = "" if outcome.status == "success" else "; `labctl resume last` goes on with it"
        print_text(
            f"run ended with status {outcome.status}: {outcome.reason}; "
            f"what was taken is in {outcome.directory}{goes_on}"
        )
        return
    estimate_table("", rows)
    print_text(outcome.analysis.verdict)
    for note in outcome.analysis.notes:
        print_text(f"note: {note}")
    for file in outcome.files:
        print_text(str(file))


def find_run(name: str, root: Path, *, recover: bool = True) -> Path:
    """The folder of a run given as a path, as its name, the end of its name, or `last`.

    recover: first complete runs whose process died. Raises ParameterError with what there is.
    """
    path = Path(name)
    if path.exists():
        folder = path if path.is_dir() else path.parent
        if recover:
            recover_dead_run(folder)
        return folder
    if recover:
        recover_dead_runs(root)
    runs = [info.path for info in list_runs(root)]
    if not runs:
        raise ParameterError(f"no runs in {root}; give the folder with --out, or make one with `labctl demo`")
    if name == "last":
        return runs[0]
    matching = [run for run in runs if f"_{run.name}".endswith(f"_{name}")]
    if not matching:
        raise ParameterError(
            f"no run named {name!r} in {root}{nearest(name, [run.name for run in runs[:20]])}"
        )
    return matching[0]


def show_run(name: str, *, root: Path, as_json: bool) -> None:
    """Print what a stored run holds."""
    data = open_run(find_run(name, root))
    estimates = data.directory / "estimates.json"
    found = json.loads(estimates.read_text(encoding="utf-8")) if estimates.is_file() else None
    if as_json:
        print_json(_run_json(data) | {"analysis": found})
        return
    print_text(f"{data.experiment}  {data.directory}\nstatus: {data.status}")
    print_table("parameters", ["name", "value"], [list(row) for row in _shown_parameters(data)])
    rows = [[a.sweep, str(a.index), f"{a.live_time_ps * 1e-12:.3f} s"] for a in data.acquisitions]
    shown = [*rows[:6], ["...", f"{len(rows)} in all", ""]] if len(rows) > 7 else rows
    print_table("acquisitions", ["sweep", "point", "live time"], shown)
    if found:
        estimate_table("estimates", found["estimates"])
        print_text(found["verdict"])


def _shown_parameters(data: RunData) -> Iterator[tuple[str, str]]:
    """Names and values with their units, as far as the experiment is still known."""
    try:
        units = {p.name: p.unit for p in find_experiment(data.experiment).describe_parameters()}
    except LabctlError:
        units = {}
    for name, value in data.parameters.items():
        number = isinstance(value, float) and bool(units.get(name))
        yield name, format_quantity(value, units[name]) if number else str(value)


def plot_run(name: str, *, root: Path, output: Path | None, as_json: bool) -> None:
    """Analyse again and draw again."""
    outcome = analyse_run(open_run(find_run(name, root)).directory)
    if outcome.analysis is None:
        raise ParameterError(
            f"{outcome.directory}: the run ended with status {outcome.status!r}; "
            "only one that was taken to its end can be analysed"
        )
    figure = outcome.directory / "figure.png"
    if output is not None:
        shutil.copyfile(figure, output)
        figure = output
    if as_json:
        print_json({"figure": str(figure), "status": outcome.status})
    else:
        print_text(str(figure))


def recover_run(name: str, *, root: Path, as_json: bool) -> None:
    """Complete the run file of a run whose process died."""
    data = open_run(finish_journal(open_run(find_run(name, root)).directory))
    if as_json:
        print_json(_run_json(data))
    else:
        print_text(f"{data.path}: complete, status {data.status}, {len(data.acquisitions)} acquisitions")


def _split(setting: str, example: str = '--set dwell="30 s"') -> tuple[str, str]:
    name, separator, value = setting.partition("=")
    if not (separator and name.strip()):
        raise ParameterError(f"{setting!r} is not NAME=VALUE; write for example {example}")
    return name.strip(), value.strip()


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _outcome_json(outcome: Outcome, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": str(outcome.directory),
        "status": outcome.status,
        "reason": outcome.reason,
        "estimates": rows,
        "verdict": outcome.analysis.verdict if outcome.analysis else "",
        "notes": outcome.analysis.notes if outcome.analysis else [],
        "files": [str(file) for file in outcome.files],
    }


def _run_json(data: RunData) -> dict[str, Any]:
    return {
        "run": str(data.directory),
        "experiment": data.experiment,
        "title": data.header.get("title", ""),
        "status": data.status,
        "parameters": data.parameters,
        "sweeps": list(data.sweeps),
        "acquisitions": [
            {"sweep": a.sweep, "index": a.index, "live_time_s": a.live_time_ps * 1e-12}
            for a in data.acquisitions
        ],
    }
