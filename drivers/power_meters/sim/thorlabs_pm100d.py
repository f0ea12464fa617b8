"""The Thorlabs PM100D power meter seen from the other end of its cable: SCPI over the world's light.

A reading depends on the light and on the world's time only, so two programs that read at one time agree.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from labctl.twin.device import Reply, SimDevice, WorldPort
from labctl.twin.scpi import Handler, ScpiTable

_PS = 1_000_000_000_000

# Facts that no manual at hand confirms; each is to be corrected on the first real meter.
ASSUMED: dict[str, Any] = {
    "zero_s": 2.0,
    "brightest_zero_w": 1e-6,  # a zero adjustment with more light than this fails
    "zero_error": (-200, "Zero adjustment failed, too much light"),
    "no_sensor_error": (-241, "Hardware missing"),
    "no_sensor_answers": True,  # a reading without sensor is answered by 9.91E+37; else not at all
    "no_sensor_name": '"no sensor"',
    "error_queue_length": 20,
    "ranges_w": (50e-9, 500e-9, 5e-6, 50e-6, 500e-6, 5e-3, 50e-3),
    "relative_noise": 0.002,
    "noise_w": 1e-9,
}
_NOT_A_NUMBER = "9.91000000E+37"
_OVER_RANGE = "9.90000000E+37"

_TEXTS = {
    -102: "Syntax error",
    -104: "Data type error",
    -109: "Missing parameter",
    -113: "Undefined header",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
}


class _RefusedError(Exception):
    """The command goes into the error queue."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ThorlabsPm100dSim(SimDevice):
    """A PM100D with a silicon sensor at the visible pick-off.

    Options: unit ("W" or "DBM", as a previous user left it), wavelength_nm.
    Faults for `trip`: sensor (True or None: unplugged, False: plugged in), zero (an adjustment begins at
    the front panel), unit (value "DBM": the front panel is touched).
    """

    def __init__(
        self, world: WorldPort, name: str, *, unit: str = "W", wavelength_nm: float = 705.0, **options: Any
    ) -> None:
        super().__init__(world, name, **options)
        self._unit = unit.upper()
        self._wavelength_nm = wavelength_nm
        self._averages = 1
        self._auto_range = True
        self._range_w: float = ASSUMED["ranges_w"][-1]
        self._loss_db = 0.0
        self._low_pass = True
        self._line_hz = 50
        self._sensor = True
        self._zero_offset_w = 0.0
        self._zero_end_ps: int | None = None
        self._errors: deque[tuple[int, str]] = deque()
        self._buffer = b""
        self._table = ScpiTable(self._commands())

    def feed(self, data: bytes) -> list[Reply]:
        """Answer every complete line."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [reply for line in lines if (reply := self._obey(line.decode("latin-1").strip()))]

    def state(self) -> dict[str, Any]:
        """How the meter is set."""
        self._settle()
        return {
            "unit": self._unit,
            "wavelength_nm": self._wavelength_nm,
            "sensor": self._sensor,
            "zeroing": self._zero_end_ps is not None,
            "zero_offset_w": self._zero_offset_w,
        }

    def trip(self, fault: str, value: Any = None) -> None:
        """Provoke a fault; see the class."""
        if fault == "sensor":
            self._sensor = not (value is None or bool(value))
        elif fault == "zero":
            self._begin_zero("")
        elif fault == "unit":
            self._set_unit(str(value))
        else:
            super().trip(fault, value)

    def _obey(self, line: str) -> Reply | None:
        self._settle()
        # readings wait for a running zero adjustment, with the light of the moment they were asked for
        due_ps = self._zero_end_ps
        answers: list[str] = []
        waits = False
        for message in filter(None, (part.strip() for part in line.split(";"))):
            header, _, argument = message.partition(" ")
            try:
                handler = self._table.find(header)
                if handler is None:
                    raise _RefusedError(-113)
                answer = handler(argument.strip().upper())
            except _RefusedError as refused:
                self._queue(refused.code, _TEXTS[refused.code])
                continue
            waits |= handler == self._read
            if answer is not None:
                answers.append(answer)
        if not answers:
            return None
        return Reply(f"{';'.join(answers)}\n".encode(), due_ps if waits else None)

    def _queue(self, code: int, text: str) -> None:
        if len(self._errors) < ASSUMED["error_queue_length"]:
            self._errors.append((code, text))
        else:
            self._errors[-1] = (-350, _TEXTS[-350])

    def _next_error(self) -> str:
        code, text = self._errors.popleft() if self._errors else (0, "No error")
        return f'{code:+d},"{text}"'

    def _commands(self) -> dict[str, Handler]:
        zero = "SENSe[1]:CORRection:COLLect:ZERO"
        return {
            "*IDN?": lambda _: "THORLABS,PM100D,P0001234,2.4.0",
            "*CLS": lambda _: self._errors.clear(),
            "*OPC?": lambda _: "1",
            "*TST?": lambda _: "0",
            "SYSTem:ERRor[:NEXT]?": lambda _: self._next_error(),
            "SYSTem:SENSor:IDN?": lambda _: self._sensor_text(),
            "STATus:OPERation[:EVENt]?": lambda _: "0",
            "MEASure[:SCALar][:POWer]?": self._read,
            "CONFigure[:SCALar][:POWer]": lambda _: None,
            "READ?": self._read,
            "FETCh?": self._read,
            "SENSe[1]:POWer[:DC]:UNIT": self._set_unit,
            "SENSe[1]:POWer[:DC]:UNIT?": lambda _: self._unit,
            "SENSe[1]:POWer[:DC]:RANGe[:UPPer]": self._set_range,
            "SENSe[1]:POWer[:DC]:RANGe[:UPPer]?": lambda end: self._within(
                end, self._range_now_w(), ASSUMED["ranges_w"][0], ASSUMED["ranges_w"][-1]
            ),
            f"{zero}[:INITiate]": self._begin_zero,
            f"{zero}:ABORt": self._abort_zero,
            f"{zero}:STATe?": lambda _: str(int(self._zero_end_ps is not None)),
            f"{zero}:MAGNitude?": lambda _: _scientific(self._zero_offset_w),
            **self._setting("SENSe[1]:POWer[:DC]:RANGe:AUTO", "_auto_range", _parse_switch, "{:d}"),
            **self._setting("INPut[:PDIode]:FILTer[:LPASs][:STATe]", "_low_pass", _parse_switch, "{:d}"),
            **self._setting("SENSe[1]:CORRection:WAVelength", "_wavelength_nm", _number(400.0, 1100.0)),
            **self._setting("SENSe[1]:CORRection[:LOSS]", "_loss_db", _number(-60.0, 60.0)),
            **self._setting("SENSe[1]:AVERage[:COUNt]", "_averages", _number(1, 10_000, int), "{:d}"),
            **self._setting("SYSTem:LFRequency", "_line_hz", _number(50, 60, int), "{:d}"),
            "SENSe[1]:CORRection:WAVelength?": lambda end: self._within(
                end, self._wavelength_nm, 400.0, 1100.0
            ),
        }

    def _setting(
        self, header: str, attribute: str, parse: Callable[[str], float], form: str = "{:.8E}"
    ) -> dict[str, Handler]:
        return {
            header: lambda text: setattr(self, attribute, parse(text)),
            f"{header}?": lambda _: form.format(getattr(self, attribute)),
        }

    def _within(self, end: str, value: float, low: float, high: float) -> str:
        """The answer to a query that knows MIN and MAX."""
        ends = {"": value, "MIN": low, "MINIMUM": low, "MAX": high, "MAXIMUM": high}
        if end not in ends:
            raise _RefusedError(-224)
        return _scientific(ends[end])

    def _sensor_text(self) -> str:
        return "S120C,1234567,12-JAN-2020,1,18,289" if self._sensor else str(ASSUMED["no_sensor_name"])

    def _set_unit(self, text: str) -> None:
        if text not in ("W", "DBM"):
            raise _RefusedError(-224 if text else -109)
        self._unit = text

    def _set_range(self, text: str) -> None:
        watts = _number(0.0, ASSUMED["ranges_w"][-1])(text)
        self._auto_range = False
        self._range_w = _range_above(watts)

    def _range_now_w(self) -> float:
        if self._auto_range:
            brightest = ASSUMED["ranges_w"][-1]
            self._range_w = _range_above(min(abs(self._signal_w()), brightest))
        return self._range_w

    def _signal_w(self) -> float:
        """The light with its noise; both are functions of the world's time."""
        rng = self.world.rng(f"{self.name}/reading/{self.world.now_ps}")
        relative, absolute = rng.standard_normal(2) / math.sqrt(self._averages)
        light_w = self.world.vis_power_at_meter_w() * (1.0 + ASSUMED["relative_noise"] * relative)
        return float(light_w + ASSUMED["noise_w"] * absolute)

    def _read(self, _: str) -> str | None:
        if not self._sensor:
            self._queue(*ASSUMED["no_sensor_error"])
            return _NOT_A_NUMBER if ASSUMED["no_sensor_answers"] else None
        signal_w = self._signal_w()
        if signal_w > self._range_now_w() * 1.1:
            return _OVER_RANGE
        watts = (signal_w - self._zero_offset_w) * 10 ** (self._loss_db / 10)
        if self._unit == "W":
            return _scientific(watts)
        return _scientific(10 * math.log10(watts / 1e-3)) if watts > 0 else _NOT_A_NUMBER

    def _begin_zero(self, _: str) -> None:
        self._zero_end_ps = self.world.now_ps + round(ASSUMED["zero_s"] * _PS)

    def _abort_zero(self, _: str) -> None:
        self._zero_end_ps = None

    def _settle(self) -> None:
        """End a zero adjustment whose time is over."""
        if self._zero_end_ps is None or self.world.now_ps < self._zero_end_ps:
            return
        self._zero_end_ps = None
        signal_w = self._signal_w()
        if signal_w > ASSUMED["brightest_zero_w"]:
            self._queue(*ASSUMED["zero_error"])
        else:
            self._zero_offset_w = signal_w


def _scientific(value: float) -> str:
    return f"{value:.8E}"


def _range_above(watts: float) -> float:
    return float(next(upper for upper in ASSUMED["ranges_w"] if watts <= upper))


def _number(low: float, high: float, kind: type[float] = float) -> Callable[[str], float]:
    """Parses a number between `low` and `high`, both included."""

    def parse(text: str) -> float:
        if not text:
            raise _RefusedError(-109)
        try:
            value = kind(text)
        except ValueError:
            raise _RefusedError(-104) from None
        if not low <= value <= high:
            raise _RefusedError(-222)
        return value

    return parse


def _parse_switch(text: str) -> float:
    if text not in ("0", "1", "ON", "OFF"):
        raise _RefusedError(-224 if text else -109)
    return text in ("1", "ON")
