"""What a dry run found: how long, how many counts, which errors, how much disk, and what would stop it.

All numbers are those of the whole experiment. When only a part of it was rehearsed (`scale` below 1), bench
time, counts and disk need are extrapolated in proportion, and errors with the square root, as those of
counts are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl.errors import LabctlError


class ForecastError(LabctlError, RuntimeError):
    """A dry run that cannot be made, or that broke."""


@dataclass(frozen=True)
class CountForecast:
    """Counts of one channel in one sweep: mean rate, the rates of the darkest and brightest acquisition in
    1/s, mean counts per acquisition, and all counts."""

    sweep: str
    channel: int
    acquisitions: int
    rate_hz: float
    lowest_hz: float
    highest_hz: float
    counts_per_acquisition: float
    counts: float


@dataclass(frozen=True)
class EstimateForecast:
    """What the analysis will say: a simulated value in `unit`, the errors to expect, the twin's truth."""

    quantity: str
    value: float
    error_low: float
    error_high: float
    unit: str
    truth: float | None


@dataclass(frozen=True)
class LinkForecast:
    """Commands and bytes on the wire of one instrument, and the wall time in s that they will take there."""

    instrument: str
    transport: str
    commands: int
    bytes: int
    wall_time_s: float


@dataclass(frozen=True)
class Forecast:
    """The result of a dry run.

    bench: the bench that is asked about. rehearsed_on: the simulated bench in its place.
    scale: part of the bench time that was rehearsed. points: committed points of the rehearsal.
    problem: the error that would stop the run, "" if none; problem_place: where it came.
    bench_time_s: from the first to the last step of the run. wall_time_s: bench time and that of the links.
    disk_bytes: of the finished run; None, like bytes_per_tag, when nothing was counted.
    """

    experiment: str
    bench: str
    rehearsed_on: str
    scale: float
    points: int
    problem: str
    problem_place: str
    bench_time_s: float
    wall_time_s: float
    disk_bytes: int
    bytes_per_tag: float | None
    counts: list[CountForecast]
    estimates: list[EstimateForecast]
    links: list[LinkForecast]
    verdict: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def link_time_s(self) -> float:
        """Wall time of all commands together."""
        return sum(link.wall_time_s for link in self.links)
