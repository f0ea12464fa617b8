"""The simulated bench that takes the place of the real one, and the limits of the real one upon it.

A bench with a twin is rehearsed on a fresh twin of its own. A bench of real instruments names a simulated
one (`dry_run: NAME`). Its instruments keep the calibration that fits the simulated world; where the two
bench files give the same driver other options, the limits that follow from the real file's options are put
upon the simulated instrument's parameters as well.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qcodes.parameters import Parameter
from qcodes.validators import Numbers

from labctl.bench.bench import Bench, TwinOptions, open_bench
from labctl.bench.config import BenchConfig, load_bench
from labctl.errors import LabctlError
from labctl.instruments.base import LabInstrument
from labctl.instruments.limits import Limits

from .forecast import CountForecast, ForecastError

_CONTROL_PORT = re.compile(r"[\w.-]+:\d+")


@dataclass(frozen=True)
class StandIn:
    """The bench that is asked about and the simulated one in its place, each with its file."""

    asked: BenchConfig
    asked_file: Path
    simulated: BenchConfig
    file: Path

    @property
    def itself(self) -> bool:
        """Whether the bench is simulated anyway."""
        return self.asked_file == self.file

    @property
    def shared(self) -> list[str]:
        """Instruments that both benches have under one name with the same driver."""
        mine, other = self.asked.instruments, self.simulated.instruments
        return [name for name in mine if name in other and mine[name].driver == other[name].driver]

    @property
    def differing(self) -> list[str]:
        """The shared instruments whose options are not the same."""
        mine, other = self.asked.instruments, self.simulated.instruments
        return [name for name in self.shared if mine[name].options != other[name].options]

    def check_roles(self, roles: dict[str, type]) -> None:
        """Raises ForecastError when the bench that is asked about has no instrument for a role."""
        filled = {*self.asked.instruments, *self.asked.roles}
        missing = [role for role in roles if role not in filled]
        if missing:
            raise ForecastError(
                f"bench {self.asked.bench!r} has no instrument for {', '.join(map(repr, missing))}; "
                f"add it to {self.asked_file} under that name or in `roles:`"
            )

    def guard_trip(self, counts: Iterable[CountForecast]) -> str:
        """How the detector guard of the bench would trip at these rates, "" if it would not."""
        guard = self.asked.detector_guard
        if guard is None:
            return ""
        for item in counts:
            if item.channel in guard.channels and item.highest_hz > guard.max_rate:
                return (
                    f"the detector guard of {self.asked.bench} closes above {guard.max_rate:g} 1/s, "
                    f"and channel {item.channel} reaches {item.highest_hz:.4g} 1/s in {item.sweep!r}"
                )
        return ""


@dataclass(frozen=True)
class RealLimit:
    """Limits of one parameter on the real bench."""

    instrument: str
    parameter: str
    low: float
    high: float
    unit: str


def stand_in_for(bench: str) -> StandIn:
    """The bench to rehearse on. Raises ForecastError when there is none, saying what to add; NotFound."""
    asked, asked_file = load_bench(bench)
    if asked.dry_run is None and asked.twin is None:
        raise ForecastError(
            f"{asked_file}: a dry run needs a simulated bench with the same roles; name it in this file: "
            "`dry_run: sim_dot`"
        )
    simulated, file = load_bench(asked.dry_run) if asked.dry_run else (asked, asked_file)
    if simulated.twin is None:
        raise ForecastError(f"{asked_file}: `dry_run` names {file}, which has no twin; name one that has")
    if _CONTROL_PORT.fullmatch(simulated.twin):
        raise ForecastError(
            f"{file}: its twin {simulated.twin} is one that is running, which a dry run would change; "
            f"name a simulated bench with a twin of its own in {asked_file}: `dry_run: sim_dot`"
        )
    return StandIn(asked, asked_file, simulated, file)


def real_limits(stand_in: StandIn, folder: Path) -> tuple[list[RealLimit], list[str]]:
    """Limits that follow from the real bench file, and remarks on what can be checked and what cannot.

    The simulated bench is opened once with the real file's options; nothing is set. `folder`: for its file.
    """
    if stand_in.itself:
        return [], []
    remarks = _remarks(stand_in)
    if not stand_in.differing:
        return [], remarks
    try:
        with open_bench(str(_with_real_options(stand_in, folder)), TwinOptions()) as bench:
            limits = [limit for name in stand_in.shared for limit in _limits(bench.instruments[name])]
    except (LabctlError, ValueError) as error:
        differing = ", ".join(stand_in.differing)
        return [], [*remarks, f"not checked: the limits of {differing}, which do not fit the twin ({error})"]
    return limits, remarks


def impose(limits: list[RealLimit], bench: Bench) -> None:
    """Let the parameters of the simulated bench refuse what the real ones would refuse."""
    for limit in limits:
        parameter = getattr(bench.instruments[limit.instrument], limit.parameter)
        check = Limits(limit.instrument, limit.parameter, limit.low, limit.high, limit.unit)
        parameter.add_validator(check)


def _remarks(stand_in: StandIn) -> list[str]:
    asked, simulated = stand_in.asked.bench, stand_in.simulated.bench
    remarks = [
        f"limits from the options of {asked} are checked; limits that an instrument itself reports, and "
        f"positions that follow from a calibration, are those of {simulated}"
    ]
    unlike = [name for name in stand_in.asked.instruments if name not in stand_in.shared]
    if unlike:
        remarks.append(f"not checked, because {simulated} has no such instrument: {', '.join(unlike)}")
    return remarks


def _with_real_options(stand_in: StandIn, folder: Path) -> Path:
    config = stand_in.simulated.model_copy(deep=True)
    for name in stand_in.differing:
        config.instruments[name].options = stand_in.asked.instruments[name].options
    file = folder / "limits.yaml"
    file.write_text(json.dumps(config.model_dump()), encoding="utf-8")  # YAML contains JSON
    return file


def _limits(instrument: LabInstrument) -> list[RealLimit]:
    return [
        RealLimit(instrument.name, name, float(check.min_value), float(check.max_value), parameter.unit)
        for name, parameter in instrument.parameters.items()
        if isinstance(parameter, Parameter)
        for check in parameter.validators
        if isinstance(check, Numbers) and (math.isfinite(check.min_value) or math.isfinite(check.max_value))
    ]
