"""A pulsed laser diode that is triggered and gated by two outputs of a delay generator."""

from __future__ import annotations

from qcodes import validators as vals
from qcodes.parameters import ParameterBase as Parameter

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument, SafeReport
from labctl.instruments.derived.gate import GATE_PULSE_V, SAFE_LIMIT_S
from labctl.instruments.derived.parents import (
    DelayGenerator,
    clipped,
    edge_of,
    is_open,
    limits_of,
    output_of,
)
from labctl.instruments.errors import NotReady
from labctl.instruments.limits import Limits

TRIGGER_WIDTH_S = 20e-9
TRIGGER_PULSE_V = 2.5
GATE_OPEN_V = 2.0
_ROUNDING = 1e-9


class PulsedDiode(LabInstrument):
    """A pulsed diode: every leading edge of one output makes a light pulse while another output is high.

    Free running, the generator's internal trigger makes `rate` pulses per second. Synchronised, each
    external trigger starts a burst of `burst_count` pulses with the period 1 / `rate`; when the rate
    changes, the number of pulses follows so that a burst lasts as long as before,
    N = floor(rate burst_count / rate_hz).

    generator: the delay generator. trigger_output, gate_output: outputs at the diode's trigger and gate.
    rate_hz: rate after `establish`. burst_rate_hz: rate of the external trigger. burst_count: pulses of a
    burst at rate_hz. pulse_width_s: duration of a light pulse, as specified.
    Raises ValueError when such a burst does not fit between two external triggers.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        generator: DelayGenerator,
        trigger_output: str = "AB",
        gate_output: str = "CD",
        rate_hz: float = 2.5e6,
        burst_rate_hz: float = 1e3,
        burst_count: int = 2495,
        pulse_width_s: float = 80e-12,
    ) -> None:
        super().__init__(name, clock=clock)
        if burst_count / rate_hz >= 1 / burst_rate_hz:
            raise ValueError(
                f"{name}: {burst_count} pulses at {rate_hz:g} Hz do not fit between triggers at "
                f"{burst_rate_hz:g} Hz; reduce burst_count in the bench file"
            )
        self._generator = generator
        self._trigger = output_of(generator, trigger_output)
        self._edges = [edge_of(generator, letter) for letter in trigger_output]
        self._first_letter = trigger_output[0]
        self._gate = output_of(generator, gate_output)
        self._default_rate_hz = rate_hz
        self._burst_s = burst_count / rate_hz
        self._burst_rate_hz = burst_rate_hz
        self._add_parameters(pulse_width_s)

    def _add_parameters(self, pulse_width_s: float) -> None:
        self.enabled: Parameter = self.add_parameter(
            "enabled",
            label="Emission",
            docstring="True while the gate lets the trigger pulses through to the diode.",
            get_cmd=lambda: bool(self._gate.offset() > GATE_OPEN_V / 2),
            set_cmd=self._set_enabled,
            vals=vals.Bool(),
        )
        self.rate: Parameter = self.add_parameter(
            "rate",
            unit="Hz",
            label="Pulse rate",
            docstring="Free running: rate of the internal trigger. Synchronised: 1 / burst period.",
            get_cmd=self._get_rate,
            set_cmd=self._set_rate,
            vals=Limits(self.name, "rate", *self._rate_limits(), "Hz"),
        )
        self.synchronised: Parameter = self.add_parameter(
            "synchronised",
            label="Synchronised",
            docstring="True: bursts started by the external trigger. False: free running.",
            get_cmd=self._get_synchronised,
            set_cmd=self._set_synchronised,
            vals=vals.Bool(),
        )
        self.pulse_width: Parameter = self.add_parameter(
            "pulse_width",
            unit="s",
            label="Pulse duration",
            docstring="Duration of a light pulse as specified (full width at half maximum).",
            get_cmd=lambda: pulse_width_s,
            set_cmd=False,
        )
        self.mean_rate: Parameter = self.add_parameter(
            "mean_rate",
            unit="Hz",
            label="Mean pulse rate",
            docstring="Pulses per second; synchronised: burst count times the rate of the external trigger.",
            get_cmd=self._get_mean_rate,
            set_cmd=False,
        )

    def establish(self) -> None:
        """Emission off, free running at `rate_hz`, and the pulses of both outputs."""
        self.enabled(False)
        first, second = self._edges
        first.reference("T0")
        first.delay(0.0)
        second.reference(self._first_letter)
        second.delay(TRIGGER_WIDTH_S)
        for output, pulse_v in ((self._trigger, TRIGGER_PULSE_V), (self._gate, GATE_PULSE_V)):
            output.polarity("positive")
            output.amplitude(pulse_v)
        self._trigger.offset(0.0)
        self.rate(self._default_rate_hz)
        self.synchronised(False)

    def state_text(self) -> str:
        mode = "synchronised" if self.synchronised() else "free running"
        mode = mode if self._triggers() else "no triggers"
        return f"emission {'on' if self.enabled() else 'off'}, {mode}, {self.rate():g} Hz"

    def safe(self) -> SafeReport:
        """Emission off."""
        return self.attempt_safe(
            lambda: self.enabled(False), lambda: not self.enabled(), "emission off", limit_s=SAFE_LIMIT_S
        )

    def close(self) -> None:
        """Switches emission off, if the generator still listens, and releases the instrument."""
        if is_open(self) and is_open(self._generator):
            self.safe()
        super().close()

    def _rate_limits(self) -> tuple[float, float]:
        """At least one pulse in a burst; no faster than trigger, burst and pulse width allow."""
        shortest_s = max(TRIGGER_WIDTH_S, limits_of(self._generator.burst_period)[0])
        return 1 / self._burst_s, min(1 / shortest_s, limits_of(self._generator.trigger_rate)[1])

    def _triggers(self) -> bool:
        free_running = self._generator.trigger_source() == "internal" and not self._generator.burst()
        return free_running or self._get_synchronised()

    def _set_enabled(self, on: bool) -> None:
        if on and not self._triggers():
            raise NotReady(
                f"no pulses reach the diode: the trigger is {self._generator.trigger_source()!r}",
                instrument=self.name,
                hint="set synchronised first, to True or False",
            )
        self._gate.offset(GATE_OPEN_V if on else 0.0)

    def _get_rate(self) -> float:
        if self._generator.burst():
            return 1 / self._generator.burst_period()
        return float(self._generator.trigger_rate())

    def _set_rate(self, rate_hz: float) -> None:
        # both modes get the rate, so that changing the mode keeps it; a single pulse fits every period
        self._generator.trigger_rate(rate_hz)
        self._generator.burst_count(1)
        self._generator.burst_period(clipped(1 / rate_hz, limits_of(self._generator.burst_period)))
        self._generator.burst_count(max(1, int(self._burst_s * rate_hz * (1 + _ROUNDING))))

    def _get_synchronised(self) -> bool:
        return bool(self._generator.trigger_source() == "external_rising" and self._generator.burst())

    def _set_synchronised(self, on: bool) -> None:
        self._generator.trigger_source("single")  # no trigger may meet half of the change
        self._generator.burst(on)
        self._generator.trigger_source("external_rising" if on else "internal")

    def _get_mean_rate(self) -> float:
        if self.synchronised():
            return float(self._generator.burst_count() * self._burst_rate_hz)
        return self.rate() if self._triggers() else 0.0
