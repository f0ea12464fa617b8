"""What leaves the outputs of a DG645: edges that are linked to one another, triggers, bursts and levels.

Everything is worked out from the settings alone, in integer picoseconds; the command language that
changes them is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from labctl.twin.knobs import PulseTrain

ASSUMED: dict[str, Any] = {
    "identity": "Stanford Research Systems,DG645,s/n001234,ver1.10.150E",
    "grid_ps": 5,
    "set_t0_error": 12,  # DLAY or LINK of T0 or T1; 12 or 13
    "link_to_t1_error": 13,
    "chain_goes_on_after_error": True,
    "half_command_survives_disconnect": True,
    "max_holdoff_s": 2000,
    "mains_hz": 50,
    "inhibit_input_active": True,
    "mir_trigger_period_ps": 1_000_000_000,
    "mir_trigger_width_ps": 1_000_000,
    "mir_trigger_high_v": 5.0,
}
"""Facts that no manual has confirmed yet."""

EDGES = ("T0", "T1", "A", "B", "C", "D", "E", "F", "G", "H")
OUTPUTS = ("T0", "AB", "CD", "EF", "GH")
T0, T1 = 0, 1
INTERNAL, RISING, FALLING, SINGLE, LINE = 0, 1, 2, 5, 6
PS = 10**12

POWER_UP = {
    "TSRC": Decimal(5),
    "TRAT": Decimal(1000),
    "TLVL": Decimal(1),
    "HOLD": Decimal(0),
    "INHB": Decimal(0),
    "BURM": Decimal(0),
    "BURC": Decimal(5),
    "BURD": Decimal(0),
    "BURP": Decimal("1e-5"),
    "BURT": Decimal(0),
}
OUTPUT_POWER_UP = {"LAMP": Decimal("2.5"), "LOFF": Decimal(0), "LPOL": Decimal(1)}


@dataclass
class Dg645Outputs:
    """The settings by mnemonic, and what they make of the outputs.

    levels: by (mnemonic, output number). links, delays_ps: reference and delay of the edges A to H by number.
    triggered: something is connected to the trigger input.
    """

    triggered: bool
    values: dict[str, Decimal] = field(default_factory=POWER_UP.copy)
    levels: dict[tuple[str, int], Decimal] = field(
        default_factory=lambda: {
            (name, number): value for name, value in OUTPUT_POWER_UP.items() for number in range(len(OUTPUTS))
        }
    )
    links: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(2, len(EDGES)), T0))
    delays_ps: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(2, len(EDGES)), 0))

    @property
    def source(self) -> int:
        """The trigger source by number."""
        return int(self.values["TSRC"])

    @property
    def burst(self) -> bool:
        """Burst mode is on."""
        return bool(self.values["BURM"])

    def chain(self, edge: int) -> list[int]:
        """The edge, its reference, the reference of that, ... down to T0."""
        chain = [edge]
        while chain[-1] != T0:
            chain.append(self.links[chain[-1]])
        return chain

    def edge_ps(self, edge: int) -> int:
        """Time of an edge behind T0."""
        return sum(self.delays_ps.get(link, 0) for link in self.chain(edge))

    def cycle_ps(self) -> int:
        """Time from T0 to the last edge, T1."""
        return max(self.edge_ps(edge) for edge in self.delays_ps)

    def trigger_period_ps(self) -> int | None:
        """Time between triggers; None when there are none."""
        if self.values["INHB"] == 1 and ASSUMED["inhibit_input_active"]:
            return None
        if self.source == INTERNAL:
            return round(PS / self.values["TRAT"])
        if self.source == LINE:
            return round(PS / ASSUMED["mains_hz"])
        seen = self.triggered and 0 < self.values["TLVL"] < ASSUMED["mir_trigger_high_v"]
        return ASSUMED["mir_trigger_period_ps"] if seen and self.source in (RISING, FALLING) else None

    def overruns(self) -> bool:
        """Triggers, or cycles of a burst, arrive while the generator is busy."""
        period_ps = self.trigger_period_ps()
        if period_ps is None:
            return False
        return self._busy_ps() > period_ps or (self.burst and self.cycle_ps() > self._picoseconds("BURP"))

    def train(self, output: str) -> PulseTrain | None:
        """The pulses of an output, None when there are none.

        Cycles that fall due while one runs are left out. Bursts of the internal trigger, and bursts so long
        that external triggers are missed, have no description as a train; they count as no pulses.
        """
        leading_ps, trailing_ps = (self.edge_ps(EDGES.index(letter)) for letter in output)
        period_ps = self.trigger_period_ps()
        if period_ps is None or trailing_ps <= leading_ps or self._inhibited(output):
            return None
        if self.source in (INTERNAL, LINE):
            step_ps = period_ps * _periods(self._busy_ps(), period_ps)
            return None if self.burst else PulseTrain(step_ps, None, leading_ps, "internal")
        if self._busy_ps() > period_ps:
            return None
        trigger_ps = ASSUMED["mir_trigger_width_ps"] if self.source == FALLING else 0
        if not self.burst:
            return PulseTrain(period_ps, 1, trigger_ps + leading_ps, "mir_trigger")
        skip = _periods(self.cycle_ps(), self._picoseconds("BURP"))
        return PulseTrain(
            period_ps=skip * self._picoseconds("BURP"),
            count=_periods(int(self.values["BURC"]), skip),
            offset_ps=trigger_ps + self._picoseconds("BURD") + leading_ps,
            source="mir_trigger",
        )

    def level_v(self, output: str) -> float:
        """The steady level of an output; its pulses do not count."""
        return float(self.levels["LOFF", OUTPUTS.index(output)])

    def _picoseconds(self, mnemonic: str) -> int:
        return int(self.values[mnemonic] * PS)

    def _busy_ps(self) -> int:
        """Time from a trigger until the next one is accepted."""
        busy_ps = self.cycle_ps()
        if self.burst:
            last = int(self.values["BURC"]) - 1
            busy_ps += self._picoseconds("BURD") + last * self._picoseconds("BURP")
        return max(busy_ps, self._picoseconds("HOLD"))

    def _inhibited(self, output: str) -> bool:
        """Inhibit 2 blocks AB, 3 also CD, 4 also EF, 5 all."""
        level = int(self.values["INHB"])
        blocked = OUTPUTS if level == 5 else OUTPUTS[1:level]
        return bool(ASSUMED["inhibit_input_active"]) and level > 1 and output in blocked


def _periods(time: int, period: int) -> int:
    """Whole periods that cover a time, at least one."""
    return max(1, -(-time // period))
