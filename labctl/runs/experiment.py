"""An experiment: one declaration from which command line, stored metadata and docs follow.

An experiment is a pydantic model: its fields are the parameters, with units, bounds and descriptions.
`roles` says which instruments it needs, `records` which columns it records and in which unit.
`run` is ordinary Python that reads like a lab notebook; `analyse` turns a stored run into estimates;
`plot` draws them; `truth` says, for a run on a twin, what the estimates should have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from labctl.analysis.estimate import Estimate
from labctl.quantities import exact_quantity, format_quantity, unit_of
from labctl.sweeps import Axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labctl.runs.run import Run
    from labctl.store import RunData


@dataclass(frozen=True)
class Analysis:
    """What the analysis of a run found.

    estimates: the numbers, with errors. verdict: one sentence. notes: warnings and what was left out.
    curves: arrays that `plot` draws, by name. signed_roots: for quantities whose likelihood is skewed, the
    signed root of the likelihood ratio as a function of the truth; it is their pull.
    """

    estimates: list[Estimate]
    verdict: str = ""
    notes: list[str] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    signed_roots: Mapping[str, Callable[[float], float]] = field(default_factory=dict)

    def pull(self, estimate: Estimate, truth: float) -> float:
        """How many errors `estimate` lies above the truth."""
        signed_root = self.signed_roots.get(estimate.quantity)
        return signed_root(truth) if signed_root else estimate.pull(truth)


@dataclass(frozen=True)
class DefaultPlot:
    """Which recorded columns a viewer shows when it opens the file."""

    sweep: str
    axis: str
    signal: str
    errors: str = ""


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter as `labctl list` shows it."""

    name: str
    unit: str
    default: str
    bounds: str
    description: str


class Experiment(BaseModel):
    """Base class of experiments; see the module docstring.

    calibrations: those that its analysis uses, by name; a missing or stale one is a warning before the run.
    resumable: False for one whose course depends on what a repeated `run` would not find again.
    settle_after_light_s: bench time that the sample needs after a pause, when the light is on again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    name: ClassVar[str]
    roles: ClassVar[dict[str, type]]
    records: ClassVar[dict[str, str]] = {}
    calibrations: ClassVar[tuple[str, ...]] = ()
    default_plot: ClassVar[DefaultPlot | None] = None
    resumable: ClassVar[bool] = True
    settle_after_light_s: ClassVar[float] = 0.0

    def run(self, run: Run) -> None:
        """Carry the experiment out on `run.bench`."""
        raise NotImplementedError

    def analyse(self, data: RunData) -> Analysis:
        """Estimates from a stored run."""
        raise NotImplementedError

    def plot(self, data: RunData, analysis: Analysis, figure: Figure) -> None:
        """Draw data, model and estimates into an empty figure."""
        raise NotImplementedError

    def truth(self, twin: dict[str, Any]) -> dict[str, float]:
        """True value by quantity, from the hidden truth of the twin that made the run."""
        return {}

    def duration_s(self) -> float:
        """Bench time that the acquisitions will take, for progress and ETA."""
        raise NotImplementedError

    def scaled(self, factor: float) -> Self:
        """The same experiment with acquisitions that take `factor` times the bench time."""
        raise NotImplementedError

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def describe_parameters(cls) -> Iterator[ParameterInfo]:
        """The parameters with unit, default, bounds and description."""
        for name, info in cls.model_fields.items():
            unit = unit_of(info.metadata)
            default = info.get_default(call_default_factory=True)
            bounds = _bounds(info.metadata, unit)
            yield ParameterInfo(name, unit, _shown(default, unit), bounds, info.description or "")

    def parameters(self) -> dict[str, Any]:
        """The parameters as plain values (SI), ready for JSON and for `model_validate`."""
        return self.model_dump(mode="json")


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, Axis | bool | str):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format_quantity(value, unit)
    return str(value)


def _bounds(metadata: list[Any], unit: str) -> str:
    parts = []
    for item in metadata:
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if hasattr(item, attribute):
                parts.append(f"{sign} {exact_quantity(getattr(item, attribute), unit)}")
        if math.isfinite(getattr(item, "low", math.inf)):
            parts.append(f"{format_quantity(item.low, unit)} .. {format_quantity(item.high, unit)}")
    return ", ".join(parts)
