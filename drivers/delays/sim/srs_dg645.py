"""The DG645 delay generator seen from the other end of the cable: its command language and error queue.

After every command the pulses and levels at the outputs are worked out anew and handed to the world.
Not simulated: prescalers, phases, display and stored settings.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from drivers.delays.sim.srs_dg645_outputs import ASSUMED, EDGES, OUTPUTS, PS, SINGLE, T0, T1, Dg645Outputs
from labctl.twin.device import Reply, SimDevice, WorldPort

MAX_DELAY_PS = 2000 * PS
MAX_ERRORS = 20

ILLEGAL_VALUE, ILLEGAL_DELAY, ILLEGAL_LINK = 10, 12, 13
UNDEFINED, ILLEGAL_QUERY, ILLEGAL_SET, NULL, EXTRA, MISSING = 111, 112, 113, 114, 115, 116
BAD_FLOAT, BAD_INT, SYNTAX, TOO_MANY = 118, 120, 126, 254

TRIG, RATE, END_OF_DELAY, END_OF_BURST, INHIBIT, PLL_UNLOCK = 1, 2, 4, 8, 16, 64


class _Number(NamedTuple):
    """Limits of a setting, and the decimals of its answers (0: an integer)."""

    low: float
    high: float
    decimals: int = 0


SETTINGS = {
    "TSRC": _Number(0, 6),
    "TRAT": _Number(1e-4, 1e7, 6),
    "TLVL": _Number(-3.5, 3.5, 2),
    "HOLD": _Number(0, ASSUMED["max_holdoff_s"], 12),
    "INHB": _Number(0, 5),
    "BURM": _Number(0, 1),
    "BURC": _Number(1, 2**32 - 1),
    "BURD": _Number(0, 2000, 12),
    "BURP": _Number(1e-7, 2000, 12),
    "BURT": _Number(0, 1),
    "LAMP": _Number(0.5, 5, 2),
    "LOFF": _Number(-2, 2, 2),
    "LPOL": _Number(0, 1),
}
TIMES = ("HOLD", "BURD", "BURP")
OUTPUT_SETTINGS = ("LAMP", "LOFF", "LPOL")


class _RefusedError(Exception):
    """A command that the instrument refuses; `code` goes to the error queue."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SrsDg645Sim(SimDevice):
    """A simulated DG645.

    diode_output: output whose leading edge triggers the pulsed diode. diode_gate_output, mir_gate_output:
    outputs whose level gates the diode and opens the MIR pulse picker; None when nothing is connected.
    trigger: what is on the trigger input, "mir_trigger" or "" for nothing.
    """

    def __init__(
        self,
        world: WorldPort,
        name: str,
        *,
        diode_output: str | None = "AB",
        diode_gate_output: str | None = "CD",
        mir_gate_output: str | None = "EF",
        trigger: str = "mir_trigger",
    ) -> None:
        super().__init__(world, name)
        for output in (diode_output, diode_gate_output, mir_gate_output):
            if output not in (*OUTPUTS[1:], None):
                raise ValueError(f"{name}: there is no output {output!r}; known: {', '.join(OUTPUTS[1:])}")
        if trigger not in ("mir_trigger", ""):
            raise ValueError(f"{name}: trigger must be 'mir_trigger' or '', not {trigger!r}")
        self._diode_output = diode_output
        self._gates = {"diode_gate_v": diode_gate_output, "mir_gate_v": mir_gate_output}
        self._triggered = bool(trigger)
        self._outputs = Dg645Outputs(self._triggered)
        self._input = bytearray()
        self._errors: deque[int] = deque()
        self._leftover = b""
        self._pll_unlocked = False
        self._events = 0
        self._events_until_ps = world.now_ps

    def feed(self, data: bytes) -> list[Reply]:
        self._input += data
        answers: list[str] = []
        while (end := self._input.find(b"\n")) >= 0:
            line = self._input[:end].decode("latin-1")
            del self._input[: end + 1]
            answers += self._execute_chain(line)
        if not answers:
            return []
        # an unread reply lies in front of the next one and leaves the instrument together with it
        reply = self._leftover + "".join(f"{answer}\r\n" for answer in answers).encode()
        self._leftover = b""
        return [Reply(reply)]

    def disconnected(self) -> None:
        if not ASSUMED["half_command_survives_disconnect"]:
            self._input.clear()

    def state(self) -> dict[str, Any]:
        outputs = self._outputs
        return {
            "trigger_source": outputs.source,
            "burst": outputs.burst,
            "edges_ps": {EDGES[edge]: outputs.edge_ps(edge) for edge in outputs.delays_ps},
            "levels_v": {output: outputs.level_v(output) for output in OUTPUTS},
            "errors": list(self._errors),
        }

    def trip(self, fault: str, value: Any = None) -> None:
        """Faults: "rate", "pll_unlock" (value False ends it), "leftover" (value: text of the line)."""
        if fault == "rate":
            self._events |= RATE
        elif fault == "pll_unlock":
            self._pll_unlocked = value is None or bool(value)
        elif fault == "leftover":
            self._leftover += f"{'0' if value is None else value}\r\n".encode()
        else:
            super().trip(fault, value)

    def _execute_chain(self, line: str) -> list[str]:
        answers = []
        for command in filter(None, map(str.strip, line.split(";"))):
            self._note_events()
            try:
                answer = self._answer(command)
            except _RefusedError as refused:
                self._report(refused.code)
                if not ASSUMED["chain_goes_on_after_error"]:
                    break
                continue
            self._drive_world()
            if answer is not None:
                answers.append(answer)
        return answers

    def _answer(self, command: str) -> str | None:
        match = re.fullmatch(r"(\*?[A-Za-z]+)(\?)?\s*(.*)", command)
        if not match:
            raise _RefusedError(SYNTAX)
        mnemonic, query, rest = match[1].upper(), bool(match[2]), match[3]
        fields = [part.strip() for part in rest.split(",")] if rest else []
        if "" in fields:
            raise _RefusedError(NULL)
        if mnemonic in OUTPUT_SETTINGS:
            return self._level(mnemonic, query, fields)
        if mnemonic in SETTINGS:
            return self._setting(mnemonic, query, fields)
        if mnemonic in ("DLAY", "LINK"):
            return self._edge(mnemonic, query, fields)
        return self._common(mnemonic, query, fields)

    def _setting(self, mnemonic: str, query: bool, fields: list[str]) -> str | None:
        _expect(fields, 0 if query else 1)
        if query:
            return _shown(mnemonic, self._outputs.values[mnemonic])
        self._outputs.values[mnemonic] = _parsed(mnemonic, fields[0])
        return None

    def _level(self, mnemonic: str, query: bool, fields: list[str]) -> str | None:
        _expect(fields, 1 if query else 2)
        key = (mnemonic, _index(fields[0], len(OUTPUTS)))
        if query:
            return _shown(mnemonic, self._outputs.levels[key])
        self._outputs.levels[key] = _parsed(mnemonic, fields[1])
        return None

    def _edge(self, mnemonic: str, query: bool, fields: list[str]) -> str | None:
        _expect(fields, 1 if query else 3 if mnemonic == "DLAY" else 2)
        edge = _index(fields[0], len(EDGES))
        if query:
            return self._shown_edge(mnemonic, edge)
        reference = _index(fields[1], len(EDGES))
        self._set_edge(edge, reference, _on_grid(_float(fields[2])) if mnemonic == "DLAY" else None)
        return None

    def _shown_edge(self, mnemonic: str, edge: int) -> str:
        outputs = self._outputs
        reference = outputs.links.get(edge, T0)
        if mnemonic == "LINK":
            return str(reference)
        delay_ps = outputs.cycle_ps() if edge == T1 else outputs.delays_ps.get(edge, 0)
        return f"{reference},{Decimal(delay_ps) / PS:+.12f}"

    def _set_edge(self, edge: int, reference: int, delay_ps: int | None) -> None:
        if edge in (T0, T1):
            raise _RefusedError(ASSUMED["set_t0_error"])
        if reference == T1:
            raise _RefusedError(ASSUMED["link_to_t1_error"])
        if edge in self._outputs.chain(reference):
            raise _RefusedError(ILLEGAL_LINK)
        if delay_ps is not None and not 0 <= delay_ps <= MAX_DELAY_PS:
            raise _RefusedError(ILLEGAL_DELAY)
        self._outputs.links[edge] = reference
        if delay_ps is not None:
            self._outputs.delays_ps[edge] = delay_ps

    def _common(self, mnemonic: str, query: bool, fields: list[str]) -> str | None:
        known: dict[str, Callable[[], str | None]] = {
            "*IDN?": lambda: ASSUMED["identity"],
            "LERR?": lambda: str(self._errors.popleft() if self._errors else 0),
            "INSR?": self._read_events,
            "*STB?": lambda: "0",
            "*ESR?": lambda: "0",
            "*OPC?": lambda: "1",
            "TIMB?": lambda: "0",
            "*CLS": self._clear,
            "*RST": self._reset,
            "*TRG": self._fire,
        }
        asked = mnemonic + "?" * query
        if asked in known:
            _expect(fields, 0)
            return known[asked]()
        if mnemonic in known:
            raise _RefusedError(ILLEGAL_QUERY)
        raise _RefusedError(ILLEGAL_SET if f"{mnemonic}?" in known else UNDEFINED)

    def _report(self, code: int) -> None:
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(code)
        else:
            self._errors[-1] = TOO_MANY

    def _reset(self) -> None:
        self._outputs = Dg645Outputs(self._triggered)

    def _clear(self) -> None:
        self._errors.clear()
        self._events = 0

    def _fire(self) -> None:
        if self._outputs.source == SINGLE:
            self._events |= TRIG | END_OF_DELAY

    def _read_events(self) -> str:
        events, self._events = self._events, 0
        # settings that cannot be met are shown at once, without waiting for the next trigger
        return str(events | RATE * self._outputs.overruns())

    def _note_events(self) -> None:
        """Remember what has happened since the last look; called before every command."""
        before_ps, self._events_until_ps = self._events_until_ps, self.world.now_ps
        outputs = self._outputs
        period_ps = outputs.trigger_period_ps()
        if period_ps is not None and self.world.now_ps // period_ps > before_ps // period_ps:
            self._events |= TRIG | END_OF_DELAY | END_OF_BURST * outputs.burst | RATE * outputs.overruns()
        self._events |= PLL_UNLOCK * self._pll_unlocked
        self._events |= INHIBIT * bool(outputs.values["INHB"] and ASSUMED["inhibit_input_active"])

    def _drive_world(self) -> None:
        outputs = self._outputs
        levels = {knob: outputs.level_v(gate) if gate else 0.0 for knob, gate in self._gates.items()}
        train = outputs.train(self._diode_output) if self._diode_output else None
        self.world.set(diode_train=train, **levels)


def _expect(fields: list[str], count: int) -> None:
    if len(fields) != count:
        raise _RefusedError(MISSING if len(fields) < count else EXTRA)


def _integer(text: str) -> Decimal:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise _RefusedError(BAD_INT)
    return Decimal(text)


def _float(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise _RefusedError(BAD_FLOAT) from None
    if not value.is_finite():
        raise _RefusedError(BAD_FLOAT)
    return value


def _index(text: str, count: int) -> int:
    value = int(_integer(text))
    if not 0 <= value < count:
        raise _RefusedError(ILLEGAL_VALUE)
    return value


def _on_grid(seconds: Decimal) -> int:
    """Picoseconds on the instrument's grid."""
    grid_ps: int = ASSUMED["grid_ps"]
    return round(seconds * PS / grid_ps) * grid_ps


def _parsed(mnemonic: str, text: str) -> Decimal:
    low, high, decimals = SETTINGS[mnemonic]
    value = _float(text) if decimals else _integer(text)
    if not Decimal(str(low)) <= value <= Decimal(str(high)):
        raise _RefusedError(ILLEGAL_VALUE)
    return Decimal(_on_grid(value)) / PS if mnemonic in TIMES else round(value, decimals)


def _shown(mnemonic: str, value: Decimal) -> str:
    decimals = SETTINGS[mnemonic].decimals
    return f"{value:+.{decimals}f}" if decimals else str(int(value))
