"""The bench file: which instruments there are, where they are, and which role each one plays.

```yaml
bench: sim_dot
description: One colloidal dot under a confocal microscope, simulated.
twin: sim_dot                       # left out on a real bench
instruments:
  power_meter:
    driver: drivers.power_meters.thorlabs_pm100d:ThorlabsPm100d
    address: twin://power_meter     # visa://USB0::... on a real bench
    identity: PM100D
  vis_attenuator:                   # a derived instrument: no address, but `uses`
    driver: labctl.instruments.derived:WaveplateAttenuator
    uses: {rotator: vis_rotator}
    options: {zero_angle_deg: 12 deg}
```

Instruments are built in the order of the file; a derived instrument comes after what it uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.bench.watch_config import DetectorGuardConfig, InterlockConfig, MonitorConfig
from labctl.config_files import load_model
from labctl.loading import find_config, nearest


class InstrumentConfig(BaseModel):
    """One instrument of a bench."""

    model_config = ConfigDict(extra="forbid")

    driver: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:Class")
    address: str | None = Field(None, description="where it is; none for a derived instrument")
    identity: str = Field("", description="text that must occur in what it says it is")
    uses: dict[str, str] = Field(default_factory=dict, description="argument: instrument of this bench")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the driver")


class BenchConfig(BaseModel):
    """A whole bench."""

    model_config = ConfigDict(extra="forbid")

    bench: str
    description: str = ""
    twin: str | None = Field(
        None,
        description="the simulated bench behind twin:// addresses: a name or file, then every run starts a "
        "fresh one, or the control port host:port of one that is running",
    )
    dry_run: str | None = Field(
        None, description="the simulated bench, a name or file, that takes this one's place in dry runs"
    )
    instruments: dict[str, InstrumentConfig]
    roles: dict[str, str] = Field(default_factory=dict, description="role: instrument, where names differ")
    kept_warm: dict[str, str] = Field(
        default_factory=dict,
        description="laser: shutter that blocks its light; a pause closes that and leaves the laser on",
    )
    monitors: list[MonitorConfig] = Field(
        default_factory=list, description="values to record from time to time"
    )
    interlocks: list[InterlockConfig] = Field(default_factory=list, description="conditions on values")
    detector_guard: DetectorGuardConfig | None = Field(
        None, description="largest count rate of the detectors"
    )
    values: dict[str, float] = Field(default_factory=dict, description="calibrated numbers of this bench, SI")

    @model_validator(mode="after")
    def _check_references(self) -> BenchConfig:
        known: list[str] = []
        for name, instrument in self.instruments.items():
            for used in instrument.uses.values():
                if used not in known:
                    hint = nearest(used, known)
                    raise ValueError(f"{name} uses {used!r}, which is not defined above it{hint}")
            if not instrument.uses and instrument.address is None:
                raise ValueError(f"{name} needs an address (or `uses`, if it is a derived instrument)")
            if (instrument.address or "").startswith("twin://") and self.twin is None:
                raise ValueError(f"{name} has the address {instrument.address}, but the bench names no twin")
            known.append(name)
        for role, name in self.roles.items():
            if name not in self.instruments:
                raise ValueError(f"role {role!r} is given to {name!r}{nearest(name, self.instruments)}")
        for name in (*self.kept_warm, *self.kept_warm.values()):
            if name not in self.instruments:
                raise ValueError(f"kept_warm names {name!r}{nearest(name, self.instruments)}")
        return self


def load_bench(name: str) -> tuple[BenchConfig, Path]:
    """The bench `name` (or the file `name`) and the file it came from.

    Raises NotFound with the nearest name, ConfigError with file and line.
    """
    path = find_config("benches", name)
    return load_model(path, BenchConfig), path
