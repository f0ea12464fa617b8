"""The Coherent OBIS laser seen from the other end of its cable.

Lines in, lines out, in the four combinations of handshaking and prompt that a program may have left. The
laser has no timers: whatever its state must be by now is computed from the world's time whenever a
command arrives. So the world sees the light at the first command after the emission delay; a driver that
waits for emission polls the status, which is that command.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labctl.twin.device import Reply, SimDevice, WorldPort
from labctl.twin.scpi import Handler, ScpiTable

_PS = 1_000_000_000_000

# Facts that no manual at hand confirms; each is to be corrected on the first real laser.
ASSUMED: dict[str, Any] = {
    "idn": "Coherent, Inc - OBIS 705LX - V1.0.1 - Dec 14 2010",
    "banner": "Coherent OBIS",
    "prompt": "> ",
    "hand_on_acknowledged": True,  # HAND ON from the silent mode is itself answered
    "refusal": -200,  # emission while interlock, key, warm-up or cooler forbid it
    "mode_change_while_emitting": -221,
    "interlock_closed": "ON",  # "OK" on some firmware
    "error_queue_length": 20,
    "error_format": "{code}, {text}",
    "power_time_constant_s": 0.2,
    "power_noise": 0.003,
    "temperature_time_constant_s": 5.0,
    "temperature_rise_c": 2.0,
    "current_threshold_a": 0.05,
    "current_slope_a_per_w": 1.2,
}
CDRH_DELAY_PS = 5 * _PS

_TEXTS = {
    -350: "Queue overflow",
    -221: "Settings conflict",
    -220: "Invalid parameter",
    -200: "Execution error",
    -109: "Parameter missing",
    -100: "Unrecognized command",
}
_EXTERNAL_MODES = {"DIG": "DIGITAL", "ANAL": "ANALOG", "MIX": "MIXED", "DIGSO": "DIGSO", "MIXSO": "MIXSO"}
_INTERNAL_MODES = {"CWP": "CWP", "CWC": "CWC"}
_AMBIENT_C = 24.5


class _RefusedError(Exception):
    """The laser answers with an error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class _Switches:
    """The on/off settings, with their values at power-up."""

    handshake: bool = True
    prompt: bool = False
    autostart: bool = False
    cdrh: bool = True
    cooler: bool = True


class CoherentObisSim(SimDevice):
    """An OBIS of `wavelength_nm` and rated power `power_w`; writes the knob `cw_power_w`.

    Options: warm_up_s (0: warm), start_power_w, handshake, prompt, autostart (modes left by others).
    Faults for `trip`: interlock (True or None opens, False closes), key (True or None: off, False: on),
    power_cycle, missing_ok (the next n acknowledgements are lost), fault (value: fault bits).
    """

    def __init__(
        self,
        world: WorldPort,
        name: str,
        *,
        wavelength_nm: float = 705.0,
        power_w: float = 0.05,
        start_power_w: float = 0.001,
        warm_up_s: float = 0.0,
        handshake: bool = True,
        prompt: bool = False,
        autostart: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(world, name, **options)
        self._wavelength_nm = wavelength_nm
        self._rated_w = power_w
        self._setpoint_w = start_power_w
        self._on = _Switches(handshake, prompt, autostart)
        self._mode = "CWP"
        self._warm_ps = world.now_ps + round(warm_up_s * _PS)
        self._interlock_open = False
        self._key_on = True
        self._fault_bits = 0
        self._errors: deque[int] = deque()
        self._emission_from_ps: int | None = None  # when light begins; None while off
        self._step_ps = world.now_ps  # last change of the power or the diode's state
        self._step_w = 0.0
        self._step_temperature_c = 25.0
        self._buffer = bytearray()
        self._unsent = b""
        self._missing_ok = 0
        self._table = ScpiTable(self._commands())
        if autostart:
            self._power_up()
        self._show()

    def feed(self, data: bytes) -> list[Reply]:
        """Answer every complete line."""
        self._buffer += data
        *lines, rest = re.split(rb"[\r\n]", bytes(self._buffer))
        self._buffer = bytearray(rest)
        answers = [self._answer(line.decode("latin-1").strip()) for line in lines if line.strip()]
        output = self._unsent + b"".join(answers)
        if not lines or not output:
            return []
        self._unsent = b""
        return [Reply(output)]

    def state(self) -> dict[str, Any]:
        """What the laser is doing."""
        self._show()
        return {
            "emission": self._emits(),
            "setpoint_w": self._setpoint_w,
            "power_w": self._power_w(),
            "interlock_open": self._interlock_open,
            "key_on": self._key_on,
            "handshake": self._on.handshake,
            "status": f"{self._status():08X}",
        }

    def trip(self, fault: str, value: Any = None) -> None:
        """Provoke a fault; see the class."""
        active = value is None or bool(value)
        if fault == "interlock":
            self._interlock_open = active
        elif fault == "key":
            self._key_on = not active
        elif fault == "fault":
            self._fault_bits = int(value or 0)
        elif fault == "power_cycle":
            self._power_up()
            self._buffer.clear()
            self._unsent = f"{ASSUMED['banner']}\r\n".encode()
        elif fault == "missing_ok":
            self._missing_ok = 1 if value is None else int(value)
        else:
            super().trip(fault, value)
        if self._interlock_open or not self._key_on or self._fault_bits:
            self._end_emission()  # latched: only a new command starts it again
        self._show()

    def _power_up(self) -> None:
        self._end_emission()
        self._on = _Switches(autostart=self._on.autostart, cdrh=self._on.cdrh, cooler=self._on.cooler)
        self._errors.clear()
        if self._on.autostart and self._may_emit():
            self._begin_emission()

    def _answer(self, line: str) -> bytes:
        self._show()
        header, _, argument = line.partition(" ")
        talkative = self._on.handshake
        try:
            handler = self._table.find(header)
            if handler is None:
                raise _RefusedError(-100)
            value = handler(argument.strip().upper())
        except _RefusedError as refused:
            self._queue(refused.code)
            answer = f"ERR{refused.code}\r\n" if self._on.handshake else ""
        else:
            acknowledged = self._on.handshake and (talkative or ASSUMED["hand_on_acknowledged"])
            answer = f"{value}\r\n" if value is not None else ""
            if acknowledged and self._missing_ok:
                self._missing_ok -= 1
            elif acknowledged:
                answer += "OK\r\n"
        self._show()
        return (answer + (ASSUMED["prompt"] if self._on.prompt else "")).encode()

    def _queue(self, code: int) -> None:
        if len(self._errors) < ASSUMED["error_queue_length"]:
            self._errors.append(code)
        else:
            self._errors[-1] = -350

    def _commands(self) -> dict[str, Handler]:
        return {
            "*IDN?": lambda _: ASSUMED["idn"],
            "*TST?": lambda _: "0",
            "*RST": self._reset,
            **self._system_commands(),
            **self._source_commands(),
            **self._switch_commands("SYSTem:COMMunicate:HANDshaking", "handshake"),
            **self._switch_commands("SYSTem:COMMunicate:PROMpt", "prompt"),
            **self._switch_commands("SYSTem:AUTostart", "autostart"),
            **self._switch_commands("SYSTem:CDRH", "cdrh"),
            **self._switch_commands("SOURce:TEMPerature:APRobe", "cooler"),
            **_temperature_queries("DIODe", self._diode_c),
            **_temperature_queries("INTernal", lambda: _AMBIENT_C),
            **_temperature_queries("BASeplate", lambda: _AMBIENT_C),
        }

    def _system_commands(self) -> dict[str, Handler]:
        information = "SYSTem:INFormation"
        return {
            f"{information}:MODel?": lambda _: f"OBIS {self._wavelength_nm:.0f}LX",
            f"{information}:SNUMber?": lambda _: "OB-70510",
            f"{information}:PNUMber?": lambda _: "1178770",
            f"{information}:FVERsion?": lambda _: "V1.0.1",
            f"{information}:PVERsion?": lambda _: "P1.0",
            f"{information}:CDATe?": lambda _: "20210312",
            f"{information}:MDATe?": lambda _: "20210310",
            f"{information}:TYPe?": lambda _: "DDL",
            f"{information}:WAVelength?": lambda _: f"{self._wavelength_nm:.0f}",
            f"{information}:POWer?": lambda _: f"{self._rated_w:.5f}",
            "SYSTem:STATus?": lambda _: f"{self._status():08X}",
            "SYSTem:FAULt?": lambda _: f"{self._fault_bits:08X}",
            "SYSTem:HOURs?": lambda _: f"{1240.5 + self.world.now_ps / _PS / 3600:.2f}",
            "SYSTem:DIODe:HOURs?": lambda _: "812.25",
            "SYSTem:CYCLes?": lambda _: "97",
            "SYSTem:LOCK?": lambda _: "OFF" if self._interlock_open else ASSUMED["interlock_closed"],
            "SYSTem:ERRor:CLEar": lambda _: self._errors.clear(),
            "SYSTem:ERRor:COUNt?": lambda _: str(len(self._errors)),
            "SYSTem:ERRor:NEXT?": lambda _: self._next_error(),
        }

    def _source_commands(self) -> dict[str, Handler]:
        power = "SOURce:POWer"
        return {
            "SOURce:AM:STATe": self._set_emission,
            "SOURce:AM:STATe?": lambda _: _on_off(self._emission_from_ps is not None),
            "SOURce:AM:SOURce?": lambda _: self._mode,
            "SOURce:AM:INTernal": lambda mode: self._set_mode(_INTERNAL_MODES, mode),
            "SOURce:AM:EXTernal": lambda mode: self._set_mode(_EXTERNAL_MODES, mode),
            f"{power}:LEVel:IMMediate:AMPLitude": self._set_power,
            f"{power}:LEVel:IMMediate:AMPLitude?": lambda _: f"{self._setpoint_w:.5f}",
            f"{power}:LEVel?": lambda _: f"{self._measured_w():.5f}",
            f"{power}:LIMit:LOW?": lambda _: f"{0.0:.5f}",
            f"{power}:LIMit:HIGH?": lambda _: f"{self._highest_w():.5f}",
            f"{power}:NOMinal?": lambda _: f"{self._rated_w:.5f}",
            f"{power}:CURRent?": lambda _: f"{self._current_a():.3f}",
        }

    def _switch_commands(self, header: str, switch: str) -> dict[str, Handler]:
        return {
            header: lambda text: setattr(self._on, switch, _parse_on_off(text)),
            f"{header}?": lambda _: _on_off(getattr(self._on, switch)),
        }

    def _next_error(self) -> str:
        code = self._errors.popleft() if self._errors else 0
        return str(ASSUMED["error_format"]).format(code=code, text=_TEXTS.get(code, "No error"))

    def _reset(self, _: str) -> None:
        self._end_emission()
        self._mode = "CWP"

    def _set_mode(self, modes: dict[str, str], mode: str) -> None:
        if self._emission_from_ps is not None:
            raise _RefusedError(ASSUMED["mode_change_while_emitting"])
        if not mode:
            raise _RefusedError(-109)
        if mode not in modes:
            raise _RefusedError(-220)
        self._mode = modes[mode]

    def _set_power(self, text: str) -> None:
        if not text:
            raise _RefusedError(-109)
        try:
            watts = float(text)
        except ValueError:
            raise _RefusedError(-220) from None
        if not 0.0 <= watts <= self._highest_w():
            raise _RefusedError(-220)
        self._mark_step()
        self._setpoint_w = watts

    def _set_emission(self, text: str) -> None:
        wanted = _parse_on_off(text)
        if not wanted:
            self._end_emission()
        elif not self._may_emit():
            raise _RefusedError(ASSUMED["refusal"])
        elif self._emission_from_ps is None:
            self._begin_emission()

    def _may_emit(self) -> bool:
        warm = self.world.now_ps >= self._warm_ps
        return self._key_on and not self._interlock_open and not self._fault_bits and self._on.cooler and warm

    def _begin_emission(self) -> None:
        self._mark_step()
        self._emission_from_ps = self.world.now_ps + (CDRH_DELAY_PS if self._on.cdrh else 0)

    def _end_emission(self) -> None:
        self._mark_step()
        self._emission_from_ps = None

    def _emits(self) -> bool:
        return self._emission_from_ps is not None and self.world.now_ps >= self._emission_from_ps

    def _show(self) -> None:
        """Tell the world what leaves the laser now; without its signal, external modulation gives none."""
        lit = self._emits() and self._mode in _INTERNAL_MODES
        self.world.set(cw_power_w=self._setpoint_w if lit else 0.0)

    def _status(self) -> int:
        emits = self._emits()
        warm = self.world.now_ps >= self._warm_ps
        return (
            (0x1 if self._fault_bits else 0)
            | (0x2 if emits else 0)
            | (0x4 if self._may_emit() else 0)
            | (0x8 if not self._key_on else 0)
            | (0x10 if self._emission_from_ps is not None and not emits else 0)
            | (0x40 if self._errors else 0)
            | (0x100 if not warm else 0)
            | (0x400 if self._mode not in _INTERNAL_MODES else 0)
        )

    def _mark_step(self) -> None:
        """Remember where power and temperature are, before they start towards new values."""
        self._step_w, self._step_temperature_c = self._power_w(), self._diode_c()
        self._step_ps = self.world.now_ps

    def _elapsed_s(self) -> float:
        """Time since the last change; a power does not rise before the emission delay is over."""
        return max(0, self.world.now_ps - max(self._step_ps, self._emission_from_ps or 0)) / _PS

    def _power_w(self) -> float:
        if not self._emits() or self._mode not in _INTERNAL_MODES:
            return 0.0
        decay = math.exp(-self._elapsed_s() / ASSUMED["power_time_constant_s"])
        return self._setpoint_w + (self._step_w - self._setpoint_w) * decay

    def _measured_w(self) -> float:
        noise = self.world.rng(f"{self.name}/power/{self.world.now_ps}").standard_normal()
        return self._power_w() * (1.0 + ASSUMED["power_noise"] * noise)

    def _diode_c(self) -> float:
        target = 25.0 + (ASSUMED["temperature_rise_c"] if self._emits() else 0.0)
        decay = math.exp(-self._elapsed_s() / ASSUMED["temperature_time_constant_s"])
        return target + (self._step_temperature_c - target) * decay

    def _current_a(self) -> float:
        if not self._emits():
            return 0.0
        return float(ASSUMED["current_threshold_a"] + ASSUMED["current_slope_a_per_w"] * self._power_w())

    def _highest_w(self) -> float:
        return 1.1 * self._rated_w


def _temperature_queries(sensor: str, read_c: Callable[[], float]) -> dict[str, Handler]:
    return {
        f"SOURce:TEMPerature:{sensor}?": lambda _: f"{read_c():.1f}C",
        f"SOURce:TEMPerature:{sensor}:F?": lambda _: f"{read_c() * 1.8 + 32:.1f}F",
    }


def _on_off(value: bool) -> str:
    return "ON" if value else "OFF"


def _parse_on_off(text: str) -> bool:
    if not text:
        raise _RefusedError(-109)
    if text not in ("ON", "OFF"):
        raise _RefusedError(-220)
    return text == "ON"
