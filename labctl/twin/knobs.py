"""Everything that instruments can turn in the simulated bench, as one frozen value.

Instruments never act on each other: they change knobs, and the world is a function of the history of
its knobs and of its seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from labctl.loading import nearest


class WorldError(Exception):
    """The world cannot be simulated as it is set up, or was asked for something that it does not have."""


@dataclass(frozen=True)
class PulseTrain:
    """Electrical trigger edges that reach the pulsed diode.

    source "internal": free running, edges at `start_ps + offset_ps + k period_ps`, k = 0, 1, ... (`count`
    of them, or for ever when it is None).
    source "mir_trigger": after each trigger of the MIR amplifier, `count` edges at
    `trigger + offset_ps + k period_ps`; the burst must end before the next trigger.
    """

    period_ps: int
    count: int | None = None
    offset_ps: int = 0
    source: Literal["internal", "mir_trigger"] = "internal"
    start_ps: int = 0

    def __post_init__(self) -> None:
        if self.period_ps <= 0:
            raise WorldError(f"a pulse train needs a positive period, not {self.period_ps} ps")
        if self.count is not None and self.count <= 0:
            raise WorldError(f"a pulse train needs at least one pulse, not {self.count}")
        if self.source == "mir_trigger" and self.count is None:
            raise WorldError("a pulse train triggered by the MIR amplifier needs a count of pulses")


@dataclass(frozen=True)
class Knobs:
    """State of the bench as set by its instruments.

    cw_power_w: power that leaves the head of the CW laser (0 when its emission is off).
    vis_waveplate_deg, mir_waveplate_deg: mechanical angles of the two attenuators' half-wave plates.
    diode_train: trigger edges that reach the pulsed diode; None when there are none.
    diode_gate_v, mir_gate_v: levels at the gate inputs of the diode and of the MIR pulse picker.
    vis_blocked, mir_blocked: a beam block stands in the beam.
    """

    cw_power_w: float = 0.0
    vis_waveplate_deg: float = 0.0
    mir_waveplate_deg: float = 0.0
    diode_train: PulseTrain | None = None
    diode_gate_v: float = 0.0
    mir_gate_v: float = 0.0
    vis_blocked: bool = False
    mir_blocked: bool = False


KNOB_NAMES = tuple(f.name for f in fields(Knobs))


def check_knob(name: str, value: Any) -> None:
    """WorldError when there is no such knob or when it cannot take this value."""
    if name not in KNOB_NAMES:
        raise WorldError(f"no knob '{name}'{nearest(name, KNOB_NAMES)}")
    if name == "diode_train":
        valid, expected = value is None or isinstance(value, PulseTrain), "a PulseTrain or None"
    elif isinstance(getattr(Knobs(), name), bool):
        valid, expected = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        valid, expected = number and math.isfinite(value), "a finite number"
    if not valid:
        raise WorldError(f"knob '{name}' cannot be {value!r}: it takes {expected}")
