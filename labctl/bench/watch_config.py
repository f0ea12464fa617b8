"""The parts of a bench file that watch over a run: slow monitors, interlocks, the guard of the detectors.

```yaml
monitors:
  - {parameter: power_meter.power, period: 5 s}
interlocks:
  - {parameter: cryostat.temperature, high: 12 K, slope: 0.5 K/s, stale: 30 s, hysteresis: 1 K, hold: 10 s}
detector_guard: {tagger: tagger, channels: [1, 2], max_rate: 2 MHz, resume_below: 1 MHz}
```

Limits are written in any unit of the parameter's dimension, slopes as such a quantity per s, min or h; they
are turned into numbers by `value_of` and `slope_of` when the instrument is there to say its unit.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.quantities import Hertz, QuantityError, Seconds, parse_quantity

_PARAMETER = r"^\w+(\.\w+)+$"
_PER = re.compile(r"\s*(.+?)\s*/\s*(s|min|h)\s*")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


class MonitorConfig(BaseModel):
    """A parameter that is read and recorded from time to time."""

    model_config = ConfigDict(extra="forbid")

    parameter: str = Field(pattern=_PARAMETER, description="instrument.parameter")
    period: Seconds = Field(5.0, gt=0, description="bench time between two readings")


class InterlockConfig(BaseModel):
    """A condition on a parameter, and what happens when it does not hold."""

    model_config = ConfigDict(extra="forbid")

    parameter: str = Field(pattern=_PARAMETER, description="instrument.parameter")
    period: Seconds = Field(1.0, gt=0, description="bench time between two readings")
    low: float | str | None = Field(None, description="smallest allowed value")
    high: float | str | None = Field(None, description="largest allowed value")
    slope: float | str | None = Field(None, description="largest change, up or down, as in 0.5 K/s")
    window: Seconds = Field(10.0, gt=0, description="bench time over which the slope is taken")
    stale: Seconds | None = Field(
        None, gt=0, description="longest time without a fresh number; 30 s or five periods if left out"
    )
    hysteresis: float | str = Field(0.0, description="how far inside the range it must be for its release")
    hold: Seconds = Field(10.0, ge=0, description="how long it must be inside for its release")
    action: Literal["suspend", "abort", "safe"] = "suspend"

    @property
    def stale_s(self) -> float:
        """Longest time without a fresh number in s."""
        return self.stale if self.stale is not None else max(30.0, 5 * self.period)

    @model_validator(mode="after")
    def _check(self) -> InterlockConfig:
        if self.stale_s <= self.period:
            raise ValueError(f"stale {self.stale_s:g} s must be longer than the period {self.period:g} s")
        return self


class DetectorGuardConfig(BaseModel):
    """The largest count rate of single-photon detectors."""

    model_config = ConfigDict(extra="forbid")

    tagger: str = Field("tagger", description="the tagger that counts them")
    channels: list[int] = Field(min_length=1, description="the channels of the detectors")
    max_rate: Hertz = Field(gt=0, description="above this rate of any channel the light is shut off")
    resume_below: Hertz = Field(gt=0, description="rate of every channel below which the run goes on")

    @model_validator(mode="after")
    def _check(self) -> DetectorGuardConfig:
        if self.resume_below > self.max_rate:
            raise ValueError("resume_below must not be above max_rate")
        return self


def value_of(given: float | str, unit: str) -> float:
    """A limit in the parameter's own unit; a bare number is taken as it is. Raises QuantityError."""
    if not isinstance(given, str):
        return float(given)
    try:
        return parse_quantity(given, unit)
    except KeyError:
        raise QuantityError(f"{given!r}: no units are known for {unit!r}; write a bare number") from None


def slope_of(given: float | str, unit: str) -> float:
    """A largest slope in the parameter's unit per s, from "0.5 K/s", "30 mK/min" or a bare number.

    What stands before the last `/s`, `/min` or `/h` is a quantity of the parameter's dimension.
    Raises QuantityError.
    """
    if not isinstance(given, str):
        return abs(float(given))
    match = _PER.fullmatch(given)
    if match is None:
        raise QuantityError(f"{given!r} is no slope; write for example '0.5 {unit}/s'")
    return abs(value_of(match[1], unit)) / _SECONDS[match[2]]
