"""A whole run: taken, analysed, drawn; and a stored run analysed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.analysis.errors import AnalysisError
from labctl.errors import LabctlError
from labctl.runs.experiment import Analysis, Experiment
from labctl.runs.lookup import experiment_of, find_experiment
from labctl.runs.session import ExperimentFailed, NotSafe, Taken, take_run
from labctl.store import RunData, open_run

__all__ = [
    "ExperimentFailed", "NotSafe", "Outcome", "Taken", "analyse_run", "conclude", "estimate_rows", "execute",
    "experiment_of", "find_experiment", "take_run",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A finished run: where it is, how it ended, what its analysis found."""

    directory: Path
    status: str
    reason: str
    analysis: Analysis | None
    truth: dict[str, float]

    @property
    def files(self) -> list[Path]:
        """Everything the run left, the HDF5 file first."""
        return sorted(self.directory.iterdir(), key=lambda f: (f.suffix != ".h5", f.name))


def execute(experiment: Experiment, bench_name: str, **options: Any) -> Outcome:
    """Take data with `experiment` on the bench, then analyse and plot them; `options` as for `take_run`."""
    return conclude(take_run(experiment, bench_name, **options))


def conclude(taken: Taken) -> Outcome:
    """Analyse a run that was just taken; data that cannot be analysed are kept, and the outcome says why."""
    try:
        return analyse_run(taken.directory, reason=taken.reason)
    except AnalysisError as error:
        return Outcome(taken.directory, taken.status, f"not analysed: {error}", None, {})


def analyse_run(directory: Path, *, reason: str = "") -> Outcome:
    """Analyse a stored run and leave `figure.png` and `estimates.json` beside it.

    Raises ExperimentFailed when the experiment's own code for that is broken.
    """
    data = open_run(directory)
    if data.status != "success":
        return Outcome(directory, data.status, reason or data.reason, None, {})
    try:
        analysis, truth = _analyse(experiment_of(data), data)
    except LabctlError:
        raise
    except Exception as error:
        raise ExperimentFailed(
            f"the analysis of {data.experiment} failed with {type(error).__name__}: {error}; the data are in "
            f"{directory}, and `labctl plot` analyses them again (LABCTL_DEBUG=1 shows where it failed)"
        ) from error
    summary = {
        "experiment": data.experiment,
        "estimates": estimate_rows(analysis, truth),
        "verdict": analysis.verdict,
        "notes": analysis.notes,
    }
    (directory / "estimates.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return Outcome(directory, data.status, reason, analysis, truth)


def _analyse(experiment: Experiment, data: RunData) -> tuple[Analysis, dict[str, float]]:
    """Analysis and truth; the figure is left beside the data."""
    analysis = experiment.analyse(data)
    truth = experiment.truth(data.twin) if data.twin else {}
    _save_figure(experiment, data, analysis, data.directory / "figure.png")
    return analysis, truth


def estimate_rows(analysis: Analysis, truth: dict[str, float]) -> list[dict[str, Any]]:
    """Estimates with truth and pull where the truth is known, ready for JSON."""
    rows = []
    for estimate in analysis.estimates:
        row = estimate.as_dict() | {"truth": None, "pull": None}
        if estimate.quantity in truth:
            row["truth"] = truth[estimate.quantity]
            row["pull"] = analysis.pull(estimate, truth[estimate.quantity])
        rows.append(row)
    return rows


def _save_figure(experiment: Experiment, data: RunData, analysis: Analysis, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    experiment.plot(data, analysis, figure)
    figure.savefig(path)
