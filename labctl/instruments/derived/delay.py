"""The delay between two pulse trains, made by the start of a burst."""

from __future__ import annotations

import math

from qcodes.parameters import ParameterBase as Parameter

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument
from labctl.instruments.derived.parents import DelayGenerator
from labctl.instruments.errors import NotReady
from labctl.instruments.limits import Limits

GRID_S = 5e-12
_ROUNDING_S = 1e-15
_PERIOD_TOLERANCE = 1e-5


class BurstDelay(LabInstrument):
    """Delay between a pulse at the sample and the pulses of a burst that its trigger starts.

    Delta = sign (BURD - zero) modulo the burst period P: the pulses of a burst are alike, so delays that
    differ by P are the same. A setting uses the smallest burst delay BURD >= min_burst_delay_s.
    A reading has one of many equal values. It returns the one nearest to the value that was set last (in
    [0, P) if none was set), so that 400 ns reads 400 ns and not 0; apart from that choice of the multiple
    of P it is what the generator says.

    generator: the delay generator. zero_s: burst delay at which the pulses coincide. sign: -1 when a later
    burst makes Delta smaller. period_s: P. lowest_s, highest_s: accepted values of Delta, which are a
    convention, since every delay can be reached modulo P.
    Raises ValueError for a sign other than 1 and -1; setting raises NotReady while the generator's burst
    period does not divide P.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        generator: DelayGenerator,
        zero_s: float,
        sign: int = -1,
        period_s: float = 400e-9,
        min_burst_delay_s: float = 0.0,
        lowest_s: float = -50e-9,
        highest_s: float = 400e-9,
    ) -> None:
        super().__init__(name, clock=clock)
        if sign not in (1, -1):
            raise ValueError(f"{name}: sign must be 1 or -1, not {sign}")
        self._generator = generator
        self._zero_s = zero_s
        self._sign = sign
        self._period_s = period_s
        self._min_burst_delay_s = min_burst_delay_s
        self._last_set_s: float | None = None
        self.delay: Parameter = self.add_parameter(
            "delay",
            unit="s",
            label="Delay",
            docstring="Delta = sign (BURD - zero) modulo the burst period.",
            get_cmd=self._get_delay,
            set_cmd=self._set_delay,
            vals=Limits(name, "delay", lowest_s, highest_s, "s"),
        )
        self.resolution: Parameter = self.add_parameter(
            "resolution",
            unit="s",
            label="Resolution",
            docstring="Smallest step of the delay.",
            get_cmd=lambda: GRID_S,
            set_cmd=False,
        )
        self.wraps: Parameter = self.add_parameter(
            "wraps",
            unit="s",
            label="Burst period",
            docstring="Delays that differ by this much are the same.",
            get_cmd=lambda: period_s,
            set_cmd=False,
        )

    def state_text(self) -> str:
        return f"{self.delay() * 1e9:.3f} ns"

    def _check_period(self) -> None:
        burst_period_s = self._generator.burst_period()
        pulses = self._period_s / burst_period_s
        if round(pulses) < 1 or abs(pulses - round(pulses)) > _PERIOD_TOLERANCE:
            raise NotReady(
                f"delays wrap after {self._period_s:g} s, but the burst period is {burst_period_s:g} s",
                instrument=self.name,
                hint="set the rate of the pulsed source, or period_s in the bench file",
            )

    def _set_delay(self, delay_s: float) -> None:
        self._check_period()
        burst_delay_s = self._zero_s + self._sign * delay_s
        ahead_s = burst_delay_s - self._min_burst_delay_s
        burst_delay_s -= math.floor((ahead_s + _ROUNDING_S) / self._period_s) * self._period_s
        self._generator.burst_delay(max(0.0, round(burst_delay_s / GRID_S) * GRID_S))
        self._last_set_s = delay_s

    def _get_delay(self) -> float:
        delay_s = self._sign * (self._generator.burst_delay() - self._zero_s)
        if self._last_set_s is None:
            return delay_s - math.floor(delay_s / self._period_s) * self._period_s
        return delay_s + round((self._last_set_s - delay_s) / self._period_s) * self._period_s
