"""The Thorlabs ELL14 rotation mount seen from the other end of its cable.

Commands have no terminator, so their length follows from their letters. A move is answered when it is
over; the mount is at its new angle from that instant on, which the host announces by `released`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labctl.twin.device import Reply, SimDevice, WorldPort

_PS = 1_000_000_000_000

# Facts that no manual at hand confirms; each is to be corrected on the first real mount.
ASSUMED: dict[str, Any] = {
    "speed_deg_per_s": 400.0,
    "start_s": 0.1,
    "completion_reports_target": True,  # else the encoder position with its small error
    "out_of_range": 12,
    "busy_answers": True,  # queries during a move answer GS09; old firmware is silent
    "stalled_after": 0.5,  # fraction of the way done when the motor gives up
    "stalled_s": 2.0,
    "button_lines": ("BS08", "BO{position:08X}"),
}
_PARTIAL_S = 2.0
_OK, _COMM_TIMEOUT, _MECHANICAL, _UNSUPPORTED, _OUT_OF_RANGE_VALUE, _BUSY = 0, 1, 2, 3, 4, 9

# number of data characters by command
_LENGTHS = {
    "in": 0, "gs": 0, "gp": 0, "ma": 8, "mr": 8, "ho": 1, "gj": 0, "sj": 8, "fw": 0, "bw": 0, "gv": 0,
    "sv": 2, "go": 0, "so": 8, "i1": 0, "i2": 0, "s1": 0, "s2": 0, "us": 0, "ca": 1, "ga": 1, "is": 2,
}  # fmt: skip


@dataclass(frozen=True)
class _Move:
    """A move under way: where the mount will be, and what it will answer."""

    position: int
    due_ps: int


class ThorlabsEll14Sim(SimDevice):
    """An ELL14 at one address of a bus; writes its angle in deg into the knob `axis`.

    Faults for `trip`: stall (the next move ends with status 2 half way), button (unasked lines before the
    next answer), wrong_address and collision (the next answer is another's, or garbled).
    """

    def __init__(
        self,
        world: WorldPort,
        name: str,
        axis: str = "vis_waveplate_deg",
        address: str = "0",
        start_deg: float = 0.0,
        *,
        travel_deg: int = 360,
        pulses: int = 0x23000,
        serial: str = "11400517",
        wall_s: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        super().__init__(world, name, **options)
        self._axis = axis
        self._address = address.upper()
        self._travel_deg = travel_deg
        self._pulses = pulses
        self._serial = serial
        self._wall_s = wall_s  # the time-out of half a command counts real time, as the bytes do
        self._position = round(start_deg * pulses / travel_deg)
        self._jog = pulses // 8
        self._home_offset = 0
        self._velocity = 100
        self._status = _OK
        self._move: _Move | None = None
        self._buffer = ""
        self._fed_s = wall_s()
        self._fed_ps = world.now_ps
        self._faults: set[str] = set()
        world.set(**{axis: self._angle_deg()})

    def feed(self, data: bytes) -> list[Reply]:
        """Answer every complete command that is addressed to this mount."""
        self._settle()
        self._drop_stale_part()
        self._buffer += data.decode("latin-1")
        replies = []
        while (command := self._cut()) is not None:
            if command[0].upper() == self._address and (reply := self._obey(command[1:3], command[3:])):
                replies.append(self._spoilt(reply))
        return replies

    def released(self, reply: Reply) -> None:
        """The answer of a move is sent: the mount is there."""
        self._settle()

    def state(self) -> dict[str, Any]:
        """Where the mount is."""
        self._settle()
        return {"angle_deg": self._angle_deg(), "moving": self._move is not None, "status": self._status}

    def trip(self, fault: str, value: Any = None) -> None:
        """Provoke a fault; see the class."""
        if fault not in ("stall", "button", "wrong_address", "collision"):
            super().trip(fault, value)
        self._faults.add(fault)

    def _settle(self) -> None:
        if self._move is not None and self.world.now_ps >= self._move.due_ps:
            self._position = self._move.position
            self._move = None
            self.world.set(**{self._axis: self._angle_deg()})

    def _drop_stale_part(self) -> None:
        """Half a command is forgotten after two seconds, by the wall or in the world."""
        now_s, now_ps = self._wall_s(), self.world.now_ps
        late = now_s - self._fed_s > _PARTIAL_S or now_ps - self._fed_ps > _PARTIAL_S * _PS
        if self._buffer and late:
            self._buffer = ""
            self._status = _COMM_TIMEOUT
        self._fed_s, self._fed_ps = now_s, now_ps

    def _cut(self) -> str | None:
        """The next command; line ends between commands are ignored."""
        self._buffer = self._buffer.lstrip("\r\n")
        if len(self._buffer) < 3:
            return None
        length = 3 + _LENGTHS.get(self._buffer[1:3], 0)
        if len(self._buffer) < length:
            return None
        command, self._buffer = self._buffer[:length], self._buffer[length:]
        return command

    def _obey(self, code: str, argument: str) -> Reply | None:
        if self._move is not None:
            return self._say(f"GS{_BUSY:02X}") if ASSUMED["busy_answers"] else None
        if code not in _LENGTHS:
            return self._say(f"GS{_UNSUPPORTED:02X}")
        try:
            value = int(argument or "0", 16)
        except ValueError:
            return self._say(f"GS{_OUT_OF_RANGE_VALUE:02X}")
        return self._moved(code, value) or self._told(code) or self._changed(code, value)

    def _moved(self, code: str, value: int) -> Reply | None:
        targets = {
            "ma": _signed(value),
            "mr": self._position + _signed(value),
            "fw": self._position + self._jog,
            "bw": self._position - self._jog,
            "ho": self._home_offset,
        }
        return self._start_move(targets[code]) if code in targets else None

    def _told(self, code: str) -> Reply | None:
        if code == "gs":
            status, self._status = self._status, _OK  # reading clears
            return self._say(f"GS{status:02X}")
        answers = {
            "in": f"IN0E{self._serial}20211701{self._travel_deg:04X}{self._pulses:08X}",
            "gp": f"PO{self._position & 0xFFFFFFFF:08X}",
            "gj": f"GJ{self._jog & 0xFFFFFFFF:08X}",
            "gv": f"GV{self._velocity:02X}",
            "go": f"HO{self._home_offset & 0xFFFFFFFF:08X}",
            "i1": "I110FFFFFFFFFF00B400B4",
            "i2": "I210FFFFFFFFFF00B400B4",
        }
        return self._say(answers[code]) if code in answers else None

    def _changed(self, code: str, value: int) -> Reply:
        if code == "sj":
            self._jog = _signed(value)
        elif code == "so":
            self._home_offset = _signed(value)
        elif code == "sv":
            self._velocity = max(value, 1)
        elif code == "ca":
            self._address = f"{value:X}"
        return self._say(f"GS{_OK:02X}")

    def _start_move(self, target: int) -> Reply:
        if not 0 <= target <= self._pulses:
            return self._say(f"GS{ASSUMED['out_of_range']:02X}")
        begin_ps = self.world.now_ps
        distance_deg = abs(target - self._position) * self._travel_deg / self._pulses
        duration_s = ASSUMED["start_s"] + distance_deg / ASSUMED["speed_deg_per_s"]
        landing = target + self._landing_error(begin_ps)
        answer = f"PO{(target if ASSUMED['completion_reports_target'] else landing) & 0xFFFFFFFF:08X}"
        if "stall" in self._faults:
            self._faults.remove("stall")
            landing = self._position + round((target - self._position) * ASSUMED["stalled_after"])
            duration_s, answer = ASSUMED["stalled_s"], f"GS{_MECHANICAL:02X}"
        self._move = _Move(landing, begin_ps + round(duration_s * _PS))
        return self._say(answer, self._move.due_ps)

    def _landing_error(self, begin_ps: int) -> int:
        """The mount stops 1 to 5 pulses beside its target."""
        rng = self.world.rng(f"{self.name}/landing/{begin_ps}")
        return int(rng.integers(1, 6)) * int(rng.choice((-1, 1)))

    def _angle_deg(self) -> float:
        return self._position * self._travel_deg / self._pulses

    def _say(self, text: str, due_ps: int | None = None) -> Reply:
        return Reply(f"{self._address}{text}\r\n".encode(), due_ps)

    def _spoilt(self, reply: Reply) -> Reply:
        """The answer as it comes over a troubled bus."""
        data = reply.data
        if "wrong_address" in self._faults:
            data = f"{(int(self._address, 16) + 1) % 16:X}".encode() + data[1:]
        if "collision" in self._faults:
            data = bytes(byte | 0x41 for byte in data[:-2]) + b"\r\n"
        if "button" in self._faults:
            lines = [text.format(position=self._position & 0xFFFFFFFF) for text in ASSUMED["button_lines"]]
            data = b"".join(self._say(line).data for line in lines) + data
        self._faults &= {"stall"}
        return Reply(data, reply.due_ps)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
