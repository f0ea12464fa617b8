"""A run from beginning to end: open the bench, run, make safe, complete the file, analyse, plot."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.analysis.errors import AnalysisError
from labctl.bench.bench import Bench, TwinOptions, open_bench
from labctl.errors import LabctlError
from labctl.instruments.base import SafeReport
from labctl.loading import NotFound, experiment_files, load_file, nearest
from labctl.runs.experiment import Analysis, Experiment
from labctl.runs.interrupts import StopRequest, stop_on_signals
from labctl.runs.progress import Progress, Silent
from labctl.runs.run import Run, RunStopped
from labctl.store import RunData, RunWriter, open_run

_log = logging.getLogger(__name__)
_SLICE_WALL_S = 0.05
_SLICE_TWIN_S = 1.0


class ExperimentFailed(LabctlError):
    """The code of an experiment raised an error."""


class NotSafe(LabctlError):
    """An instrument could not be brought into its safe state."""


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


def find_experiment(name: str) -> type[Experiment]:
    """The experiment `name`. Raises NotFound with the nearest name."""
    files = experiment_files()
    if name not in files:
        raise NotFound(f"no experiment named {name!r}{nearest(name, files)}")
    module = load_file(files[name])
    found = [v for v in vars(module).values() if isinstance(v, type) and getattr(v, "name", None) == name]
    if not found or not issubclass(found[0], Experiment):
        raise NotFound(f"{files[name]} defines no Experiment with name = {name!r}")
    return found[0]


def experiment_of(data: RunData) -> Experiment:
    """The experiment that made a stored run, with the parameters it had."""
    return find_experiment(data.experiment).model_validate(data.parameters)


def execute(experiment: Experiment, bench_name: str, **options: Any) -> Outcome:
    """Take data with `experiment` on the bench, then analyse and plot them; `options` as for `take_run`."""
    return conclude(take_run(experiment, bench_name, **options))


@dataclass(frozen=True)
class Taken:
    """A run whose data are on disk: where, how it ended, and why."""

    directory: Path
    status: str
    reason: str


def take_run(
    experiment: Experiment,
    bench_name: str,
    *,
    root: Path,
    twin: TwinOptions | None = None,
    progress: Progress | None = None,
    command: str = "",
    on_open: Callable[[Bench], None] | None = None,
) -> Taken:
    """Run `experiment` on the bench and complete its file.

    root: folder that collects runs. on_open: called with the open bench before the run begins.
    A stop request gives the status "abort"; an exception is recorded as "fail" and raised again after
    everything is safe and the file is complete. Data that cannot be analysed, because they are too few for
    instance, are kept, and the outcome has the reason and no analysis.
    """
    twin = twin or TwinOptions()
    watcher: Progress = progress or Silent()
    with open_bench(bench_name, twin) as bench:
        bench.require(experiment.roles)
        writer = RunWriter.create(root, experiment.name, _header(experiment, bench, twin, command))
        if on_open is not None:
            on_open(bench)
        return _carry_out(experiment, bench, writer, twin, watcher)


def conclude(taken: Taken) -> Outcome:
    """Analyse a run that was just taken; data that cannot be analysed are kept, and the outcome says why."""
    try:
        return analyse_run(taken.directory, reason=taken.reason)
    except AnalysisError as error:
        return Outcome(taken.directory, taken.status, f"not analysed: {error}", None, {})


def analyse_run(directory: Path, *, reason: str = "") -> Outcome:
    """Analyse a stored run and leave `figure.png` and `estimates.json` beside it."""
    data = open_run(directory)
    if data.status != "success":
        return Outcome(directory, data.status, reason or data.reason, None, {})
    experiment = experiment_of(data)
    analysis = experiment.analyse(data)
    truth = experiment.truth(data.twin) if data.twin else {}
    _save_figure(experiment, data, analysis, directory / "figure.png")
    summary = {
        "experiment": data.experiment,
        "estimates": estimate_rows(analysis, truth),
        "verdict": analysis.verdict,
        "notes": analysis.notes,
    }
    (directory / "estimates.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return Outcome(directory, data.status, reason, analysis, truth)


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


def _carry_out(
    experiment: Experiment, bench: Bench, writer: RunWriter, twin: TwinOptions, progress: Progress
) -> Taken:
    stop = StopRequest()
    run = Run(
        bench, writer, experiment.records,
        seed=twin.seed, slice_s=_slice_s(bench, twin), stop=stop, progress=progress,
    )  # fmt: skip
    status, reason = "success", ""
    progress.start(experiment.name, experiment.duration_s())
    try:
        with stop_on_signals(stop, progress.say):
            writer.snapshot("before", bench.snapshot())
            experiment.run(run)
            writer.snapshot("after", bench.snapshot())
    except RunStopped as stopped:
        status, reason = "abort", str(stopped)
    except LabctlError as error:
        status, reason = "fail", str(error)
        raise
    except Exception as error:
        status, reason = "fail", f"{type(error).__name__}: {error}"
        raise ExperimentFailed(
            f"{experiment.name} failed with {reason}; what was taken is in {writer.directory} "
            "(LABCTL_DEBUG=1 shows where it failed)"
        ) from error
    except BaseException as error:
        status, reason = "fail", type(error).__name__
        raise
    finally:
        reports = bench.safe()
        for report in reports:
            if not report.safe:
                _log.error("%s; switch it off by hand", report)
        progress.finish()
        directory = _complete(bench, writer, run, reports, status, reason)
    return Taken(directory, status, reason)


def _complete(
    bench: Bench, writer: RunWriter, run: Run, reports: list[SafeReport], status: str, reason: str
) -> Path:
    """Record how the bench was left, and complete the file. Raises NotSafe if something is not safe."""
    for report in reports:
        run.event("safe", instrument=report.instrument, safe=report.safe, steps=list(report.steps))
    run.event("link_traffic", **{k: list(v) for k, v in bench.link_traffic().items()})
    if bench.twin is not None:
        with suppress(LabctlError):  # a twin that has died tells no truth, but the data are complete
            writer.twin(bench.twin.client.truth() | {"acquisitions": run.truth_by_acquisition})
    directory = writer.finish(status, reason).parent
    unsafe = [str(report) for report in reports if not report.safe]
    if unsafe:
        raise NotSafe(f"{'; '.join(unsafe)}; switch it off by hand; the run is complete in {directory}")
    return directory


def _slice_s(bench: Bench, twin: TwinOptions) -> float:
    if bench.twin is None:
        return _SLICE_WALL_S
    return _SLICE_TWIN_S if twin.speed is None else min(_SLICE_TWIN_S, _SLICE_WALL_S * twin.speed)


def _header(experiment: Experiment, bench: Bench, twin: TwinOptions, command: str) -> dict[str, Any]:
    plot = experiment.default_plot
    return {
        "parameters": experiment.parameters(),
        "title": experiment.summary(),
        "bench": bench.config.bench,
        "bench_text": bench.file.read_text(encoding="utf-8"),
        "bench_values": bench.config.values,
        "identities": {name: str(identity) for name, identity in bench.identities.items()},
        "seed": twin.seed,
        "twin_id": bench.twin.twin_id if bench.twin else None,
        "bench_time_s": bench.clock.now(),
        "command": command,
        "default_plot": vars(plot) if plot else None,
    }


def _save_figure(experiment: Experiment, data: RunData, analysis: Analysis, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    experiment.plot(data, analysis, figure)
    figure.savefig(path)
