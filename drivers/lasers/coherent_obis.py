"""Coherent OBIS LX/LS: a continuous-wave diode laser on a serial line.

With handshaking on, every command is answered by `OK` or `ERR-nnn`, a query by its value before that. The
driver forces this mode when it connects, because another program may have left the laser silent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

from qcodes import validators as vals

from labctl.clock import Clock
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.errors import (
    CommandRejected,
    InstrumentTimeout,
    InterlockOpen,
    NotReady,
    ProtocolError,
)
from labctl.instruments.framing import lines_until
from labctl.instruments.limits import Limits
from labctl.instruments.link import Link

_LAST_LINE = re.compile(rb"OK|ERR-?\d+")
_EMISSION_DEADLINE_S = 20.0
_POLL_S = 0.25
_QUIET_S = 0.2
_BUSY_LIMIT_S = 2.0
_KELVIN = 273.15

# The mark spoils a half-sent command: a bare line end would complete `SOUR:AM:STAT ON`.
_RESYNC = b"?\r\n"

_ERRORS = {
    -400: "query unavailable",
    -350: "error queue overflow",
    -321: "out of memory",
    -310: "system error",
    -241: "device unavailable",
    -221: "settings conflict",
    -220: "invalid parameter",
    -203: "command protected",
    -200: "execution error, out of order",
    -109: "parameter missing",
    -102: "syntax error",
    -100: "unrecognised command",
    500: "fault of the control board",
    510: "fault of the I2C bus",
    520: "controller timeout",
    900: "message timeout of the control board",
}
_FAULTS = {
    0x1: "base plate temperature",
    0x2: "diode temperature",
    0x4: "internal temperature",
    0x8: "supply",
    0x10: "I2C bus",
    0x20: "overcurrent",
    0x40: "checksum",
    0x80: "checksum",
    0x100: "buffer overflow",
    0x200: "warm-up limit",
    0x400: "thermoelectric cooler",
    0x800: "control board",
    0x1000: "diode limit",
    0x2000: "laser not ready",
    0x4000: "photodiode",
    0x8000: "fatal",
    0x10000: "startup",
    0x20000: "watchdog reset",
    0x40000: "field calibration",
    0x100000: "over power",
}
_STATUS_FAULT = 0x1
_STATUS_EMISSION = 0x2
_STATUS_STANDBY = 0x8
_STATUS_CDRH = 0x10
_STATUS_WARM_UP = 0x100


class LaserState(StrEnum):
    """What the laser is doing."""

    OFF = "off"
    WARMUP = "warming up"
    STANDBY = "standby"
    CDRH_DELAY = "emission delay"
    ON = "emitting"
    INTERLOCK = "interlock open"
    FAULT = "fault"


class CoherentObis(LabInstrument):
    """A Coherent OBIS laser at `serial://PORT` (115200 baud, 8N1). Meets the capability Laser."""

    link: Link

    def __init__(self, name: str, address: str, *, clock: Clock | None = None) -> None:
        link = Link(
            address,
            lines_until(lambda line: _LAST_LINE.fullmatch(line) is not None),
            instrument=name,
            timeout_s=2.0,
            resync=_RESYNC,
            quiet_s=_QUIET_S,
            serial_settings={"baudrate": 115200},
        )
        super().__init__(name, link, clock=clock)
        self.emission = self.add_parameter(
            "emission",
            label="Emission",
            unit="",
            docstring="Whether light leaves the laser; setting True returns after the emission delay of 5 s. "
            "Raises InterlockOpen when interlock or key forbid it, NotReady while it warms up.",
            get_cmd=lambda: bool(self._status() & _STATUS_EMISSION),
            set_cmd=self._set_emission,
            vals=vals.Bool(),
        )
        self.power_setpoint = self.add_parameter(
            "power_setpoint",
            label="Power setpoint",
            unit="W",
            docstring="Power to emit, in steps of 10 uW; the limits are the laser's own.",
            get_cmd=lambda: self._number("SOUR:POW:LEV:IMM:AMPL?"),
            set_cmd=lambda watts: self._set(f"SOUR:POW:LEV:IMM:AMPL {watts:.5f}"),
            vals=Limits(name, "power_setpoint", 0.0, float("inf"), "W"),
        )
        self.power = self.add_parameter(
            "power",
            label="Power",
            unit="W",
            docstring="Power measured by the laser's own photodiode.",
            get_cmd=lambda: self._number("SOUR:POW:LEV?"),
        )
        self.interlock_ok = self.add_parameter(
            "interlock_ok",
            label="Interlock closed",
            unit="",
            docstring="Whether the interlock circuit is closed.",
            get_cmd=self._interlock_closed,
        )
        self.state = self.add_parameter(
            "state",
            label="State",
            unit="",
            docstring="What the laser is doing: one of LaserState.",
            get_cmd=self._state,
        )
        self.diode_temperature = self.add_parameter(
            "diode_temperature",
            label="Diode temperature",
            unit="K",
            docstring="Temperature of the laser diode.",
            get_cmd=lambda: self._celsius("SOUR:TEMP:DIOD?") + _KELVIN,
        )
        self.wavelength = self.add_parameter(
            "wavelength",
            label="Wavelength",
            unit="m",
            docstring="Nominal wavelength.",
            get_cmd=lambda: self._number("SYST:INF:WAV?") / 1e9,
        )
        self.hours = self.add_parameter(
            "hours",
            label="Diode hours",
            unit="h",
            docstring="Hours that the diode has been on.",
            get_cmd=lambda: self._number("SYST:DIOD:HOUR?"),
        )

    def establish(self) -> None:
        """Handshaking on, prompt off, autostart off, constant power; the power limits are read."""
        with self.link.transaction():
            self._handshake()
            if self._query("SYST:AUT?") != "OFF":
                self.log.warning("autostart was on: the laser would emit at power-up; switched off")
                self._acknowledge("SYST:AUT OFF")
            if (mode := self._query("SOUR:AM:SOUR?")) != "CWP":
                self.log.warning("the laser was in mode %s; set to constant power", mode)
                self._acknowledge("SOUR:AM:INT CWP")
            self._acknowledge("SYST:ERR:CLE")
            low, high = self._number("SOUR:POW:LIM:LOW?"), self._number("SOUR:POW:LIM:HIGH?")
        self.power_setpoint.vals = Limits(self.name, "power_setpoint", low, high, "W")

    def identity(self) -> Identity:
        """Model, serial number and firmware of the laser head."""
        return Identity(
            "Coherent",
            self._query("SYST:INF:MOD?"),
            self._query("SYST:INF:SNUM?"),
            self._query("SYST:INF:FVER?"),
        )

    def state_text(self) -> str:
        """The state, with the faults if there are any."""
        state = self._state()
        return f"{state}: {', '.join(self._faults())}" if state is LaserState.FAULT else str(state)

    def check_errors(self) -> None:
        """Raise CommandRejected while the laser reports a fault."""
        if faults := self._faults():
            raise CommandRejected(
                f"the laser reports a fault: {', '.join(faults)}",
                code="fault",
                instrument=self.name,
                command="SYST:FAUL?",
                hint="remove the cause, then switch the laser off and on with its key",
            )

    def safe(self) -> SafeReport:
        """Emission off, verified by the status bits. Idempotent; never raises."""
        return self.attempt_safe(
            self._force_off,
            lambda: not self._status() & (_STATUS_EMISSION | _STATUS_CDRH),
            "emission off",
        )

    def close(self) -> None:
        """Switch the emission off and release the port. Idempotent."""
        if not hasattr(self, "link"):  # QCoDeS empties an instrument that it has closed
            return
        if self.link.connected:
            report = self.safe()
            if not report.safe:
                self.log.error("closed without a confirmed emission off: %s", report)
        super().close()

    def _handshake(self) -> None:
        # both answers are drained: whether a silent laser acknowledges the first is not certain
        self.link.mark_dirty()
        self.link.send(b"SYST:COMM:HAND ON\r\nSYST:COMM:PROM OFF\r\n")
        self.link.mark_dirty()
        if self._query("SYST:COMM:HAND?") != "ON":
            raise ProtocolError(
                "handshaking cannot be switched on",
                instrument=self.name,
                command="SYST:COMM:HAND ON",
                hint="check that this is a Coherent OBIS and that no other program talks to it",
            )

    def _set_emission(self, on: bool) -> None:
        if not on:
            self._acknowledge("SOUR:AM:STAT OFF")
            if self._status() & (_STATUS_EMISSION | _STATUS_CDRH):
                raise NotReady(
                    "the laser still reports emission",
                    instrument=self.name,
                    command="SOUR:AM:STAT OFF",
                    hint="turn the key off",
                )
            return
        try:
            self._acknowledge("SOUR:AM:STAT ON")
        except CommandRejected as error:
            self._require_permission(error)
            raise
        try:
            self.wait_until(self._emits, "emitting", deadline_s=_EMISSION_DEADLINE_S, poll_s=_POLL_S)
        except BaseException:
            self.safe()  # an abandoned start must not come on by itself later
            raise
        self.check_errors()

    def _emits(self) -> bool:
        if self._status() & _STATUS_EMISSION:
            return True
        self._require_permission(None)
        return False

    def _require_permission(self, refusal: CommandRejected | None) -> None:
        """Say why the laser may not emit, if a reason is known."""
        reasons: dict[LaserState, tuple[type[InterlockOpen] | type[NotReady], str]] = {
            LaserState.INTERLOCK: (InterlockOpen, "close the interlock circuit (door, plug), then try again"),
            LaserState.STANDBY: (InterlockOpen, "turn the key switch on, then try again"),
            LaserState.WARMUP: (NotReady, "wait until the laser is warm; this takes some tens of seconds"),
            LaserState.FAULT: (NotReady, "remove the fault, then switch the laser off and on with its key"),
        }
        state = self._state()
        if state in reasons:
            kind, hint = reasons[state]
            raise kind(
                f"no emission: {state}",
                instrument=self.name,
                command="SOUR:AM:STAT ON",
                received=refusal.received if refusal else b"",
                hint=hint,
            ) from refusal

    def _force_off(self) -> None:
        with self.link.transaction(timeout_s=_BUSY_LIMIT_S):
            # off first: it works in every mode that another program may have left
            self.link.send(b"SOUR:AM:STAT OFF\r\n")
            self._handshake()

    def _status(self) -> int:
        return self._hexadecimal("SYST:STAT?")

    def _faults(self) -> list[str]:
        code = self._hexadecimal("SYST:FAUL?")
        known = list(dict.fromkeys(text for bit, text in _FAULTS.items() if code & bit))
        return known or ([f"unknown fault {code:08X}"] if code else [])

    def _interlock_closed(self) -> bool:
        return self._query("SYST:LOCK?") in ("ON", "OK")

    def _state(self) -> LaserState:
        status = self._status()
        if status & _STATUS_FAULT:
            return LaserState.FAULT
        if not self._interlock_closed():
            return LaserState.INTERLOCK
        if status & _STATUS_EMISSION:
            return LaserState.ON
        if status & _STATUS_CDRH:
            return LaserState.CDRH_DELAY
        if status & _STATUS_WARM_UP:
            return LaserState.WARMUP
        return LaserState.STANDBY if status & _STATUS_STANDBY else LaserState.OFF

    def _set(self, command: str) -> None:
        self._acknowledge(command)
        self.check_errors()

    def _acknowledge(self, command: str) -> None:
        if lines := self._answer(command):
            raise self._unexpected(command, lines)

    def _query(self, command: str) -> str:
        with self.link.transaction():
            lines = self._answer(command)
            if not lines:
                return self._value_ok(command)
        if len(lines) != 1:
            raise self._unexpected(command, lines)
        return lines[0]

    def _value_ok(self, command: str) -> str:
        """Some firmware answers the interlock query with `OK`, which looks like the end of the answer."""
        try:
            self.link.receive(command.encode())
        except InstrumentTimeout as error:
            raise self._unexpected(command, []) from error
        return "OK"

    def _answer(self, command: str) -> list[str]:
        """The lines before the closing OK. Raises CommandRejected for ERR."""
        reply = self.link.query(f"{command}\r\n".encode())
        *lines, last = reply.decode("latin-1").split("\n")
        if last == "OK":
            return lines
        code = int(last.removeprefix("ERR"))
        raise CommandRejected(
            f"refused: {_ERRORS.get(code, 'unknown error')} ({code})",
            code=code,
            instrument=self.name,
            command=command,
            received=reply,
            hint="check the value and the state of the laser",
        )

    def _unexpected(self, command: str, lines: list[str]) -> ProtocolError:
        self.link.mark_dirty()
        return ProtocolError(
            "the answer does not fit the question",
            instrument=self.name,
            command=command,
            received="\n".join(lines).encode("latin-1"),
            hint="if the laser was switched off and on, establish() sets its modes again",
        )

    def _number(self, command: str) -> float:
        return self._converted(command, self._query(command), r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", float)

    def _celsius(self, command: str) -> float:
        text = self._query(command)
        return self._converted(command, text.removesuffix("C"), r"[-+]?\d+(\.\d*)?", float)

    def _hexadecimal(self, command: str) -> int:
        text = self._query(command)
        return int(self._converted(command, text, r"[0-9A-Fa-f]{8}", lambda digits: int(digits, 16)))

    def _converted(self, command: str, text: str, form: str, convert: Callable[[str], float]) -> float:
        if re.fullmatch(form, text) is None:
            raise self._unexpected(command, [text])
        return convert(text)
