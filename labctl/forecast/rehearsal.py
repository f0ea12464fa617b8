"""A rehearsal: the experiment, shortened if it is long, on the twin; and what follows for the real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labctl.analysis.errors import AnalysisError
from labctl.bench.bench import Bench, TwinOptions
from labctl.errors import LabctlError
from labctl.runs.execute import take_run
from labctl.runs.experiment import Analysis, Experiment
from labctl.runs.progress import Progress
from labctl.settings import Settings
from labctl.store import Acquisition, RunData, list_runs, open_run
from labctl.timetags import Counts

from .forecast import CountForecast, EstimateForecast, Forecast
from .links import LinkMeter, assumption
from .stand_in import RealLimit, StandIn, impose, real_limits, stand_in_for

FULL_LENGTH_S = 1800.0
"""Bench time up to which an experiment is rehearsed in full."""


def default_scale(experiment: Experiment) -> float:
    """The part of an experiment to rehearse when nothing else is asked for."""
    return min(1.0, FULL_LENGTH_S / experiment.duration_s())


def rehearse(
    experiment: Experiment, bench: str, *, scale: float, twin: TwinOptions, folder: Path, progress: Progress
) -> Forecast:
    """Run the experiment, shortened to `scale` of its bench time, on a twin, and say what it will be like.

    folder: for the run; nothing else is written. Raises NotFound, ConfigError, ForecastError or BenchError
    when the rehearsal cannot begin; what stops it later is the forecast's `problem`.
    """
    stand_in = stand_in_for(bench)
    stand_in.check_roles(experiment.roles)
    shortened = experiment.scaled(scale) if scale < 1 else experiment
    limits, remarks = real_limits(stand_in, folder)
    rehearsal = _Rehearsal(experiment, shortened, stand_in, limits, remarks)
    problem = rehearsal.carry_out(twin, folder, progress)
    return rehearsal.forecast(open_run(list_runs(folder)[0].path), problem)


@dataclass
class _Rehearsal:
    experiment: Experiment
    shortened: Experiment
    stand_in: StandIn
    limits: list[RealLimit]
    remarks: list[str]
    meters: list[LinkMeter] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """What part is rehearsed in truth: an experiment may not shorten as far as it is asked to."""
        return min(1.0, self.shortened.duration_s() / self.experiment.duration_s())

    def carry_out(self, twin: TwinOptions, folder: Path, progress: Progress) -> str:
        """Take the run; returns the error that stopped it, or ""."""
        try:
            taken = take_run(
                self.shortened, str(self.stand_in.file), root=folder, twin=twin, progress=progress,
                command="dry run", on_open=self._opened, settings=Settings(),  # nobody is to be told
            )  # fmt: skip
        except LabctlError as error:
            if not list_runs(folder):
                raise
            return str(error)
        return taken.reason

    def forecast(self, data: RunData, problem: str) -> Forecast:
        """What follows from the rehearsed run."""
        analysis, notes = self._analyse(data)
        links = self.meters[0].forecast(self.stand_in.asked)
        bench_time_s = self._bench_time_s(data)
        tags = sum(data.contents.blocks.tags)
        size = sum(file.stat().st_size for file in data.directory.iterdir())
        stopped = bool(problem) and data.status != "success"
        counts = list(_counts(data, self.scale))
        return Forecast(
            experiment=self.experiment.name,
            bench=self.stand_in.asked.bench,
            rehearsed_on=self.stand_in.simulated.bench,
            scale=self.scale,
            points=sum(len(data.rows(sweep)["index"]) for sweep in data.sweeps),
            problem=(data.reason or problem) if stopped else problem or self.stand_in.guard_trip(counts),
            problem_place=_place(data) if stopped else "",
            bench_time_s=bench_time_s,
            wall_time_s=bench_time_s + sum(link.wall_time_s for link in links),
            disk_bytes=round(size / self.scale),
            bytes_per_tag=size / tags if tags else None,
            counts=counts,
            estimates=self._estimates(analysis, data.twin),
            links=links,
            verdict=analysis.verdict if analysis else "",
            notes=[*notes, *self.remarks, assumption(), *self._scaling()],
        )

    def _opened(self, bench: Bench) -> None:
        self.meters.append(LinkMeter(bench))
        impose(self.limits, bench)

    def _analyse(self, data: RunData) -> tuple[Analysis | None, list[str]]:
        if data.status != "success":
            return None, []
        try:
            analysis = self.shortened.analyse(data)
        except AnalysisError as error:
            return None, [f"not analysed: {error}"]
        return analysis, analysis.notes

    def _estimates(self, analysis: Analysis | None, twin: dict[str, Any] | None) -> list[EstimateForecast]:
        truth = self.experiment.truth(twin) if analysis and twin else {}
        narrower = math.sqrt(self.scale)
        return [
            EstimateForecast(
                found.quantity, found.value, narrower * found.error_low, narrower * found.error_high,
                found.unit, truth.get(found.quantity),
            )
            for found in (analysis.estimates if analysis else [])
        ]  # fmt: skip

    def _bench_time_s(self, data: RunData) -> float:
        """That of the rehearsal, and the time of the acquisitions that were left out."""
        spent_s = data.events[-1]["bench_time_s"] - data.header["bench_time_s"]
        return float(spent_s + self.experiment.duration_s() - self.shortened.duration_s())

    def _scaling(self) -> Iterator[str]:
        if self.scale < 1:
            yield (
                f"rehearsed at {self.scale:.3g} of the bench time: counts and disk need are extrapolated in "
                f"proportion, errors are multiplied by {math.sqrt(self.scale):.3g}; number of acquisitions, "
                "settling, moves and commands are those of the shortened run"
            )


def _place(data: RunData) -> str:
    """The last committed point before the run stopped."""
    rows = [(data.rows(sweep), sweep) for sweep in data.sweeps]
    committed = sum(len(table["index"]) for table, _ in rows)
    if not committed:
        return "before the first point was committed"
    table, sweep = max(rows, key=lambda item: item[0]["time"][-1])
    return f"after point {sweep}:{int(table['index'][-1])}, with {committed} points committed"


def _counts(data: RunData, scale: float) -> Iterator[CountForecast]:
    by_sweep: dict[str, list[Acquisition]] = {}
    for acquisition in data.acquisitions:
        by_sweep.setdefault(acquisition.sweep, []).append(acquisition)
    for sweep, acquisitions in by_sweep.items():
        counted = [_count(data, acquisition) for acquisition in acquisitions]
        live_s = np.array([acquisition.live_time_ps for acquisition in acquisitions]) * 1e-12
        for channel in sorted(acquisitions[0].channels):
            counts = np.array([c.get(channel, 0) for c in counted])
            rates = counts[live_s > 0] / live_s[live_s > 0]
            if rates.size:
                yield CountForecast(
                    sweep, channel, len(counted), float(counts.sum() / live_s.sum()), float(rates.min()),
                    float(rates.max()), float(counts.mean() / scale), float(counts.sum() / scale),
                )  # fmt: skip


def _count(data: RunData, acquisition: Acquisition) -> dict[int, int]:
    counter = Counts(list(acquisition.channels))
    for block in data.tag_blocks(acquisition):
        counter.update(block)
    return counter.counts
