"""Values that instruments hand to the simulated world: here the trigger edges of a pulse train."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PulseTrain:
    """Electrical trigger edges that reach the pulsed diode.

    source "internal": free running, edges at `offset_ps + k period_ps` for ever (`count` None).
    source "mir_trigger": after each trigger of the MIR amplifier, `count` edges at
    `trigger + offset_ps + k period_ps`; the burst ends before the next trigger.
    """

    period_ps: int
    count: int | None
    offset_ps: int
    source: str
