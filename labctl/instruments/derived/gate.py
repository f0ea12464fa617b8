"""A beam that is open while an output of a delay generator stands at a high level."""

from __future__ import annotations

from qcodes import validators as vals
from qcodes.parameters import ParameterBase as Parameter

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument, SafeReport
from labctl.instruments.derived.parents import DelayGenerator, is_open, output_of

GATE_PULSE_V = 0.5
SAFE_LIMIT_S = 1.0


class GateShutter(LabInstrument):
    """A shutter (pulse picker, gate input) driven by the steady level of a generator's output.

    generator: the delay generator. output: its output, for example "EF". open_level_v: level that opens;
    0 V closes. The output still pulses with every trigger; `establish` makes these pulses as small as they
    can be (0.5 V), so that they cannot open anything.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        generator: DelayGenerator,
        output: str = "EF",
        open_level_v: float = 2.0,
    ) -> None:
        super().__init__(name, clock=clock)
        self._generator = generator
        self._output = output_of(generator, output)
        self.open: Parameter = self.add_parameter(
            "open",
            label="Open",
            docstring="True while the level of the output is above half of open_level_v.",
            get_cmd=lambda: bool(self._output.offset() > open_level_v / 2),
            set_cmd=lambda opened: self._output.offset(open_level_v if opened else 0.0),
            vals=vals.Bool(),
        )

    def establish(self) -> None:
        """Closes, and makes the pulses of the output small."""
        self.open(False)
        self._output.polarity("positive")
        self._output.amplitude(GATE_PULSE_V)

    def state_text(self) -> str:
        return "open" if self.open() else "closed"

    def safe(self) -> SafeReport:
        """Closes and reads back."""
        return self.attempt_safe(
            lambda: self.open(False), lambda: not self.open(), "shutter closed", limit_s=SAFE_LIMIT_S
        )

    def close(self) -> None:
        """Closes the shutter, if the generator still listens, and releases the instrument."""
        if is_open(self) and is_open(self._generator):
            self.safe()
        super().close()
