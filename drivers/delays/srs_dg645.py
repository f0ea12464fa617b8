"""Stanford Research Systems DG645 digital delay generator over TCP.

Sets are silent on this instrument: whether one was accepted is known only from its error queue. Every
set is therefore followed by `LERR?` until the queue is empty, and a reply is taken only if it is exactly
one line of the expected shape. Commands: DG645 manual, chapter "Remote programming".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from qcodes import validators as vals
from qcodes.instrument import InstrumentChannel
from qcodes.parameters import ParameterBase as Parameter

from labctl.clock import Clock
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.errors import CommandRejected, ProtocolError
from labctl.instruments.limits import Limits
from labctl.instruments.link import Link

EDGES = {"T0": 0, "A": 2, "B": 3, "C": 4, "D": 5, "E": 6, "F": 7, "G": 8, "H": 9}
OUTPUTS = {"T0": 0, "AB": 1, "CD": 2, "EF": 3, "GH": 4}
TRIGGER_SOURCES = {
    "internal": 0,
    "external_rising": 1,
    "external_falling": 2,
    "single_external_rising": 3,
    "single_external_falling": 4,
    "single": 5,
    "line": 6,
}
INHIBITS = {"off": 0, "triggers": 1, "AB": 2, "AB_CD": 3, "AB_CD_EF": 4, "all": 5}
POLARITIES = {"negative": 0, "positive": 1}
MAX_DELAY_S = 2000.0
MAX_STORED_ERRORS = 20
ERROR_TEXTS = {
    10: "illegal value",
    11: "illegal mode",
    12: "illegal delay",
    13: "illegal link",
    14: "recall failed",
    15: "not allowed",
    16: "self-test failed",
    17: "auto-calibration failed",
    30: "lost data",
    32: "no listener",
    110: "illegal command",
    111: "undefined command",
    112: "illegal query",
    113: "illegal set",
    114: "null parameter",
    115: "extra parameters",
    116: "missing parameters",
    117: "parameter overflow",
    118: "invalid floating point number",
    120: "invalid integer",
    121: "integer overflow",
    122: "invalid hexadecimal number",
    126: "syntax error",
    170: "communication error",
    171: "overrun",
    254: "too many errors",
}

T = TypeVar("T")

_FLOAT = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Dg645Status:
    """What happened since the status was last read (`INSR?`)."""

    triggered: bool
    rate_error: bool
    end_of_delay: bool
    end_of_burst: bool
    inhibited: bool
    delay_aborted: bool
    pll_unlocked: bool
    rubidium_unlocked: bool

    @classmethod
    def from_bits(cls, bits: int) -> Dg645Status:
        """The status whose field number n is bit n of `bits`."""
        return cls(*(bool(bits >> n & 1) for n in range(8)))


def whole_lines(buffer: bytearray) -> bytes | None:
    """Framer: everything up to the last line end.

    A query has one line as its answer. Two lines that arrive together show that one of them was not
    asked for; cutting off only the first would take it for the answer.
    """
    end = buffer.rfind(b"\r\n")
    if end < 0:
        return None
    message = bytes(buffer[:end])
    del buffer[: end + 2]
    return message


class _Part(InstrumentChannel):
    """A part of the generator whose parameters cannot be replaced by accident."""

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__.get("parameters", {}) and not isinstance(value, Parameter):
            raise AttributeError(f"{self.full_name}.{key} is a parameter; call it with {value!r} to set it")
        super().__setattr__(key, value)


class DelayEdge(_Part):
    """One of the edges A..H: a delay behind a reference edge."""

    def __init__(self, parent: SrsDg645, letter: str) -> None:
        super().__init__(parent, f"channel_{letter.lower()}")
        number = EDGES[letter]
        query = f"DLAY?{number}"

        def set_delay(delay_s: float) -> None:
            with parent.transaction():
                reference, _ = parent.query_delay(query)
                parent.set_checked(f"DLAY {number},{reference},{delay_s:.12f}")

        self.delay: Parameter = self.add_parameter(
            "delay",
            unit="s",
            label=f"Delay of edge {letter}",
            docstring=f"Delay of edge {letter} behind its reference, 0 to 2000 s on a grid of 5 ps.",
            get_cmd=lambda: parent.query_delay(query)[1],
            set_cmd=set_delay,
            vals=Limits(parent.name, f"edge {letter} delay", 0, MAX_DELAY_S, "s"),
        )
        self.reference: Parameter = self.add_parameter(
            "reference",
            label=f"Reference of edge {letter}",
            docstring="Edge from which the delay counts (T0 or A to H); the generator refuses loops.",
            get_cmd=lambda: parent.query_name(f"LINK?{number}", EDGES),
            set_cmd=lambda name: parent.set_checked(f"LINK {number},{EDGES[name]}"),
            vals=vals.Enum(*(name for name in EDGES if name != letter)),
        )


class Output(_Part):
    """One of the front-panel outputs: a pulse of `amplitude` on top of a steady `offset`."""

    def __init__(self, parent: SrsDg645, output: str) -> None:
        super().__init__(parent, f"output_{output.lower()}")
        number = OUTPUTS[output]
        self.amplitude: Parameter = self.add_parameter(
            "amplitude",
            unit="V",
            label=f"Amplitude of {output}",
            docstring="Height of the pulses above the offset, 0.5 to 5 V in steps of 10 mV.",
            get_cmd=lambda: parent.query_float(f"LAMP?{number}"),
            set_cmd=lambda volts: parent.set_checked(f"LAMP {number},{volts:.2f}"),
            vals=Limits(parent.name, f"output {output} amplitude", 0.5, 5.0, "V"),
        )
        self.offset: Parameter = self.add_parameter(
            "offset",
            unit="V",
            label=f"Offset of {output}",
            docstring="Level between the pulses, -2 to 2 V in steps of 10 mV.",
            get_cmd=lambda: parent.query_float(f"LOFF?{number}"),
            set_cmd=lambda volts: parent.set_checked(f"LOFF {number},{volts:.2f}"),
            vals=Limits(parent.name, f"output {output} offset", -2.0, 2.0, "V"),
        )
        self.polarity: Parameter = self.add_parameter(
            "polarity",
            label=f"Polarity of {output}",
            docstring="Sense of the pulses, positive or negative.",
            get_cmd=lambda: parent.query_name(f"LPOL?{number}", POLARITIES),
            set_cmd=lambda name: parent.set_checked(f"LPOL {number},{POLARITIES[name]}"),
            vals=vals.Enum(*POLARITIES),
        )


class SrsDg645(LabInstrument):
    """A DG645: edges `channel_a` .. `channel_h`, outputs `output_t0`, `output_ab` .. `output_gh`.

    address: `tcp://host:5025`. timeout_s: wall time to wait for an answer.
    Errors: CommandRejected when the error queue names one, ProtocolError when an answer does not fit.
    """

    def __init__(
        self, name: str, address: str, *, clock: Clock | None = None, timeout_s: float = 10.0
    ) -> None:
        self._wire = Link(address, whole_lines, instrument=name, timeout_s=timeout_s, resync=b"\n")
        super().__init__(name, self._wire, clock=clock)
        self.transaction = self._wire.transaction
        for letter in "ABCDEFGH":
            self.add_submodule(f"channel_{letter.lower()}", DelayEdge(self, letter))
        for output in OUTPUTS:
            self.add_submodule(f"output_{output.lower()}", Output(self, output))
        self._add_trigger_parameters()
        self._add_burst_parameters()

    def _add_trigger_parameters(self) -> None:
        self.trigger_source = self._add_choice(
            "trigger_source", "TSRC", TRIGGER_SOURCES, "What starts a delay cycle."
        )
        self.trigger_rate = self._add_number(
            "trigger_rate", "TRAT", "Hz", 1e-4, 1e7, 6, "Rate of the internal trigger."
        )
        self.trigger_level = self._add_number(
            "trigger_level", "TLVL", "V", -3.5, 3.5, 2, "Threshold of the external trigger input."
        )
        self.holdoff = self._add_number(
            "holdoff", "HOLD", "s", 0, MAX_DELAY_S, 12, "Least time from one trigger to the next."
        )
        self.inhibit = self._add_choice(
            "inhibit", "INHB", INHIBITS, "What the inhibit input blocks: the triggers or some outputs."
        )

    def _add_burst_parameters(self) -> None:
        self.burst = self._add_switch("burst", "BURM", "Each trigger starts `burst_count` cycles.")
        self.burst_count: Parameter = self.add_parameter(
            "burst_count",
            label="Burst count",
            docstring="Delay cycles in a burst.",
            get_cmd=lambda: self.query_int("BURC?"),
            set_cmd=lambda count: self.set_checked(f"BURC {count}"),
            vals=vals.Ints(1, 2**32 - 1),
        )
        self.burst_delay = self._add_number(
            "burst_delay", "BURD", "s", 0, MAX_DELAY_S, 12, "From trigger to first cycle, on a 5 ps grid."
        )
        self.burst_period = self._add_number(
            "burst_period", "BURP", "s", 100e-9, MAX_DELAY_S, 12, "From one cycle of a burst to the next."
        )
        self.burst_t0 = self._add_switch("burst_t0", "BURT", "Output T0 pulses only at the start of a burst.")

    def _add_number(
        self, name: str, mnemonic: str, unit: str, low: float, high: float, decimals: int, doc: str
    ) -> Parameter:
        return self.add_parameter(
            name,
            unit=unit,
            label=name.replace("_", " ").capitalize(),
            docstring=doc,
            get_cmd=lambda: self.query_float(f"{mnemonic}?"),
            set_cmd=lambda value: self.set_checked(f"{mnemonic} {value:.{decimals}f}"),
            vals=Limits(self.name, name, low, high, unit),
        )

    def _add_choice(self, name: str, mnemonic: str, choices: Mapping[str, int], doc: str) -> Parameter:
        return self.add_parameter(
            name,
            label=name.replace("_", " ").capitalize(),
            docstring=f"{doc} One of {', '.join(choices)}.",
            get_cmd=lambda: self.query_name(f"{mnemonic}?", choices),
            set_cmd=lambda choice: self.set_checked(f"{mnemonic} {choices[choice]}"),
            vals=vals.Enum(*choices),
        )

    def _add_switch(self, name: str, mnemonic: str, doc: str) -> Parameter:
        return self.add_parameter(
            name,
            label=name.replace("_", " ").capitalize(),
            docstring=doc,
            get_cmd=lambda: self.query_name(f"{mnemonic}?", {"off": 0, "on": 1}) == "on",
            set_cmd=lambda on: self.set_checked(f"{mnemonic} {int(on)}"),
            vals=vals.Bool(),
        )

    def establish(self) -> None:
        """Empty the line, the status and the error queue; delays, levels and triggers stay as they are."""
        self._wire.mark_dirty()
        with self.transaction():
            self._wire.send(b"*CLS\n")
            self._stored_errors()

    def identity(self) -> Identity:
        fields = self._query("*IDN?").split(",")
        if len(fields) != 4:
            self._misfit("*IDN?", ",".join(fields), "vendor,model,serial,firmware")
        vendor, model, serial, firmware = fields
        return Identity(vendor, model, serial.removeprefix("s/n"), firmware.removeprefix("ver"))

    def status(self) -> Dg645Status:
        """What happened since the last call; reading clears it in the generator."""
        return Dg645Status.from_bits(self.query_int("INSR?"))

    def state_text(self) -> str:
        burst = f"{self.burst_count()} x {self.burst_period():g} s" if self.burst() else "off"
        levels = ", ".join(f"{output} {self._output(output).offset():g} V" for output in OUTPUTS)
        return f"trigger {self.trigger_source()}, burst {burst}, levels {levels}"

    def check_errors(self) -> None:
        """Raise CommandRejected if the error queue holds an error; the queue is empty afterwards."""
        self._raise_stored_errors("")

    def safe(self) -> SafeReport:
        """No triggers (single shot), no burst, all output levels at 0 V."""
        return self.attempt_safe(self._switch_off, self._is_off, "single shot, burst off, levels 0 V")

    def _switch_off(self) -> None:
        self._stored_errors()  # half a command of a dead program is an error, but not one of ours
        self.trigger_source("single")
        for output in OUTPUTS:
            self._output(output).offset(0.0)
        self.burst(False)

    def _is_off(self) -> bool:
        levels = [self._output(output).offset() for output in OUTPUTS]
        return self.trigger_source() == "single" and not any(levels) and not self.burst()

    def _output(self, output: str) -> Any:
        return self.submodules[f"output_{output.lower()}"]

    def set_checked(self, command: str) -> None:
        """Send a command that has no answer; raises CommandRejected if it was refused."""
        with self.transaction():
            self._wire.send(f"{command}\n".encode())
            self._raise_stored_errors(command)

    def query_float(self, command: str) -> float:
        """The answer to `command` as a number."""
        return self._query_as(command, _FLOAT, lambda match: float(match[0]), "a number")

    def query_int(self, command: str) -> int:
        """The answer to `command` as an integer."""
        return self._query_as(command, r"[+-]?\d+", lambda match: int(match[0]), "an integer")

    def query_name(self, command: str, names: Mapping[str, int]) -> str:
        """The answer to `command` as the name that `names` gives to the number."""
        number = self.query_int(command)
        found = [name for name, value in names.items() if value == number]
        return found[0] if found else self._misfit(command, str(number), f"one of {sorted(names.values())}")

    def query_delay(self, command: str) -> tuple[int, float]:
        """The answer to `DLAY?`: number of the reference edge, and the delay in s."""
        return self._query_as(
            command,
            rf"(\d),({_FLOAT})",
            lambda match: (int(match[1]), float(match[2])),
            "reference,delay",
        )

    def _query_as(self, command: str, pattern: str, convert: Callable[[re.Match[str]], T], shape: str) -> T:
        reply = self._query(command)
        match = re.fullmatch(pattern, reply)
        return convert(match) if match else self._misfit(command, reply, shape)

    def _query(self, command: str) -> str:
        reply = self._wire.query(f"{command}\n".encode()).decode("latin-1")
        return self._misfit(command, reply, "one line") if "\n" in reply else reply

    def _misfit(self, command: str, reply: str, shape: str) -> NoReturn:
        self._wire.mark_dirty()
        raise ProtocolError(
            f"the answer is not {shape}",
            instrument=self.name,
            command=command,
            received=reply.encode("latin-1"),
            hint="repeat the command; the link has been marked for resynchronisation",
        )

    def _stored_errors(self) -> list[int]:
        codes: list[int] = []
        while len(codes) <= MAX_STORED_ERRORS:
            code = self.query_int("LERR?")
            if code == 0:
                return codes
            codes.append(code)
        return self._misfit("LERR?", str(codes[-1]), f"0 after {MAX_STORED_ERRORS} errors")

    def _raise_stored_errors(self, command: str) -> None:
        codes = self._stored_errors()
        if not codes:
            return
        meanings = ", ".join(f"{ERROR_TEXTS.get(code, 'unknown error')} ({code})" for code in codes)
        raise CommandRejected(
            f"refused: {meanings}",
            code=codes[0],
            instrument=self.name,
            command=command,
            hint="compare the value with the present delays, links and trigger settings",
        )
