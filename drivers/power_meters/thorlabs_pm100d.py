"""Thorlabs PM100D (and PM100USB, PM101, PM400): an optical power meter that speaks SCPI.

Errors are kept in a queue, which is read after every set and whenever a reading is missing or absurd. The
unit is asked with every reading, because a touch on the front panel turns watts into dBm.
"""

from __future__ import annotations

from qcodes import validators as vals

from labctl.clock import Clock
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.errors import CommandRejected, InstrumentTimeout, NotReady, ProtocolError
from labctl.instruments.framing import until
from labctl.instruments.limits import Limits
from labctl.instruments.link import Link

_ANSWER_TIMEOUT_S = 2.0
_READING_TIMEOUT_S = 30.0  # a zero adjustment of another program delays the reading
_ZERO_DEADLINE_S = 30.0
_ZERO_POLL_S = 0.2
_NO_NUMBER = 9e37
_LONGEST_QUEUE = 100
_NM_PER_M = 1e9  # dividing by it gives the very floats that people write: 705e-9


class ThorlabsPm100d(LabInstrument):
    """A PM100D at `visa://RESOURCE`. Meets the capability PowerMeter."""

    link: Link

    def __init__(self, name: str, address: str, *, clock: Clock | None = None) -> None:
        link = Link(address, until(b"\n"), instrument=name, timeout_s=_ANSWER_TIMEOUT_S, resync=b"\n")
        super().__init__(name, link, clock=clock)
        self.power = self.add_parameter(
            "power",
            label="Power",
            unit="W",
            docstring="Optical power on the sensor, at the set wavelength. Raises NotReady over range.",
            get_cmd=self._read_power,
        )
        self.wavelength = self.add_parameter(
            "wavelength",
            label="Wavelength",
            unit="m",
            docstring="Wavelength of the light, for the sensor's calibration; the limits are the sensor's.",
            get_cmd=lambda: self._number("SENS:CORR:WAV?") / _NM_PER_M,
            set_cmd=lambda metres: self._set(f"SENS:CORR:WAV {metres * _NM_PER_M:.3f}"),
            vals=Limits(name, "wavelength", 0.0, float("inf"), "m"),
        )
        self.averaging = self.add_parameter(
            "averaging",
            label="Averaging",
            unit="",
            docstring="Number of samples, of 0.3 ms each, in one reading.",
            get_cmd=lambda: round(self._number("SENS:AVER:COUN?")),
            set_cmd=lambda count: self._set(f"SENS:AVER:COUN {count}"),
            vals=vals.Ints(1, 10_000),
        )
        self.auto_range = self.add_parameter(
            "auto_range",
            label="Auto range",
            unit="",
            docstring="Whether the meter chooses its range itself.",
            get_cmd=lambda: bool(self._number("SENS:POW:RANG:AUTO?")),
            set_cmd=lambda on: self._set(f"SENS:POW:RANG:AUTO {int(on)}"),
            vals=vals.Bool(),
        )
        self.range = self.add_parameter(
            "range",
            label="Range",
            unit="W",
            docstring="Upper end of the range; the meter takes the next one up. Setting ends auto range.",
            get_cmd=lambda: self._number("SENS:POW:RANG:UPP?"),
            set_cmd=lambda watts: self._set(f"SENS:POW:RANG:UPP {watts:.6E}"),
            vals=Limits(name, "range", 0.0, float("inf"), "W"),
        )

    def establish(self) -> None:
        """Watts, an empty error queue; the limits of wavelength and range are read."""
        with self.link.transaction():
            self.link.mark_dirty()
            self.link.send(b"*CLS\n")
            self._set("SENS:POW:UNIT W")
            self._limit("wavelength", "SENS:CORR:WAV?", _NM_PER_M, "m")
            self._limit("range", "SENS:POW:RANG:UPP?", 1.0, "W")
            if loss_db := self._number("SENS:CORR?"):
                self.log.warning("readings are corrected for a loss of %g dB that somebody has set", loss_db)
            self.check_errors()

    def identity(self) -> Identity:
        """What `*IDN?` says."""
        answer = self._query("*IDN?")
        fields = [field.strip() for field in answer.split(",")]
        if len(fields) != 4:
            raise self._misfit("*IDN?", answer)
        return Identity(*fields)

    def state_text(self) -> str:
        """The sensor, and whether a zero adjustment runs."""
        sensor = self._query("SYST:SENS:IDN?").split(",")[0].strip('"')
        return f"sensor {sensor}, {'zeroing' if self._zeroing() else 'ready'}"

    def check_errors(self) -> None:
        """Empty the error queue; raise CommandRejected with its first error."""
        self._check("")

    def zero(self) -> None:
        """Take the present signal for darkness: block the beam first. Waits on the bench clock.

        Raises CommandRejected when the meter refuses, NotReady when it does not come to an end.
        """
        command = "SENS:CORR:COLL:ZERO:INIT"
        self._set(command)
        self.wait_until(
            lambda: not self._zeroing(), "zeroed", deadline_s=_ZERO_DEADLINE_S, poll_s=_ZERO_POLL_S
        )
        self._check(command, hint="block the beam before the zero adjustment")

    def safe(self) -> SafeReport:
        """A meter does no harm; only the line is cleared. Idempotent; never raises."""
        return self.attempt_safe(
            lambda: self.link.send(b"*CLS\n"), lambda: bool(self._query("*IDN?")), "nothing to switch off"
        )

    def _limit(self, name: str, query: str, per_si: float, unit: str) -> None:
        low, high = (self._number(f"{query} {end}") / per_si for end in ("MIN", "MAX"))
        self.parameters[name].vals = Limits(self.name, name, low, high, unit)

    def _zeroing(self) -> bool:
        return bool(self._number("SENS:CORR:COLL:ZERO:STAT?"))

    def _read_power(self) -> float:
        with self.link.transaction():
            if self._query("SENS:POW:UNIT?") != "W":
                self.log.warning("somebody has changed the unit of the readings; set to W again")
                self._set("SENS:POW:UNIT W")
            watts = self._number("MEAS:POW?", timeout_s=_READING_TIMEOUT_S)
            if not abs(watts) < _NO_NUMBER:
                self._check("MEAS:POW?", hint="check that the sensor is plugged in")
                raise NotReady(
                    "the power is over range",
                    instrument=self.name,
                    command="MEAS:POW?",
                    hint="switch auto_range on, choose a larger range, or attenuate the beam",
                )
        return watts

    def _set(self, command: str) -> None:
        with self.link.transaction():
            self.link.send(f"{command}\n".encode())
            self._check(command)

    def _check(self, command: str, *, hint: str = "check the value and the state of the meter") -> None:
        errors: list[str] = []
        while (entry := self._exchange("SYST:ERR?", _ANSWER_TIMEOUT_S)).partition(",")[0] not in ("+0", "0"):
            errors.append(entry)
            if len(errors) > _LONGEST_QUEUE:
                raise self._misfit("SYST:ERR?", entry)
        if errors:
            raise CommandRejected(
                f"the meter reports {', '.join(errors)}",
                code=errors[0].partition(",")[0],
                instrument=self.name,
                command=command,
                hint=hint,
            )

    def _query(self, command: str, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> str:
        """The answer; where none comes, the error queue knows why."""
        with self.link.transaction():
            try:
                return self._exchange(command, timeout_s)
            except InstrumentTimeout:
                self._check(command)
                raise

    def _exchange(self, command: str, timeout_s: float) -> str:
        answer = self.link.query(f"{command}\n".encode(), timeout_s=timeout_s)
        return answer.decode("latin-1").removesuffix("\r")

    def _number(self, command: str, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> float:
        answer = self._query(command, timeout_s=timeout_s)
        try:
            return float(answer)
        except ValueError as error:
            raise self._misfit(command, answer) from error

    def _misfit(self, command: str, answer: str) -> ProtocolError:
        self.link.mark_dirty()
        return ProtocolError(
            "the answer does not fit the question",
            instrument=self.name,
            command=command,
            received=answer.encode("latin-1"),
            hint="check that no other program talks to this meter",
        )
