"""Thorlabs ELL14: a resonant piezo rotation mount on an Elliptec bus.

Commands are an address digit, two letters and hexadecimal data, without a terminator. A move is answered
by the position, but only when it is over; the press of a button on the mount makes it speak unasked.
"""

from __future__ import annotations

import re
from typing import NoReturn

from labctl.clock import Clock
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.errors import (
    CommandRejected,
    InstrumentError,
    InstrumentTimeout,
    NotReady,
    ProtocolError,
)
from labctl.instruments.framing import Framer, until
from labctl.instruments.limits import Limits
from labctl.instruments.link import Link

_ANSWER = re.compile(r"([0-9A-F])([A-Z][A-Z0-9])([0-9A-F]*)")
_BUTTON = re.compile(rb"[0-9A-F]B[OS][0-9A-F]*")
_INFORMATION = re.compile(r"(?P<type>..)(?P<serial>.{8})(?P<year>.{4})(?P<firmware>..)(?P<hardware>..)"
                          r"(?P<travel>.{4})(?P<pulses>.{8})")  # fmt: skip

_ANSWER_TIMEOUT_S = 2.0
_MOVE_TIMEOUT_S = 60.0  # wall time: a twin may have to compute the photons of the move
_SLOWEST_DEG_PER_S = 200.0
_LONGEST_START_S = 3.0
_REST_DEADLINE_S = 5.0
_PARTIAL_COMMAND_S = 2.1  # the mount forgets a half-sent command after 2 s
_TOLERANCE_PULSES = 10
_BUSY = 9

_STATUS = {
    0: "ok",
    1: "communication time-out",
    2: "mechanical time-out",
    3: "command not supported",
    4: "value out of range",
    5: "isolated",
    6: "out of isolation",
    7: "initialisation error",
    8: "thermal error",
    9: "busy",
    10: "sensor error",
    11: "motor error",
    12: "out of range",
    13: "over-current",
}
_HINTS = {
    2: "check that nothing blocks the mount; if it is free, run the frequency search",
    8: "let the mount cool down",
    9: "wait until the move is over, then repeat",
}


def _without_buttons(cut_line: Framer) -> Framer:
    """Drop the lines that a pressed button makes."""

    def cut(buffer: bytearray) -> bytes | None:
        while (line := cut_line(buffer)) is not None and _BUTTON.fullmatch(line):
            pass
        return line

    return cut


class ThorlabsEll14(LabInstrument):
    """An ELL14 at `serial://PORT` (9600 baud, 8N1). Meets the capability Rotator.

    bus_address: the mount's address digit on the Elliptec bus, 0-9 or A-F.
    """

    link: Link

    def __init__(
        self, name: str, address: str, *, clock: Clock | None = None, bus_address: str = "0"
    ) -> None:
        link = Link(
            address,
            _without_buttons(until(b"\r\n")),
            instrument=name,
            timeout_s=_ANSWER_TIMEOUT_S,
            serial_settings={"baudrate": 9600},
        )
        super().__init__(name, link, clock=clock)
        self._bus_address = bus_address.upper()
        self._pulses_per_degree = float("nan")
        self._unfinished_move = False
        self.angle = self.add_parameter(
            "angle",
            label="Angle",
            unit="deg",
            docstring="Mechanical angle of the mount; setting it returns when the move is over.",
            get_cmd=self._read_angle,
            set_cmd=self._move_to,
            vals=Limits(name, "angle", 0.0, 360.0, "deg"),
        )

    def establish(self) -> None:
        """Drain the line, wake the mount, read its travel. Nothing moves."""
        with self.link.transaction():
            self.link.mark_dirty()
            self._wake()
            self.wait_until(self._at_rest, "at rest", deadline_s=_REST_DEADLINE_S, poll_s=0.1)
            information = self._information()
        travel_deg = int(information["travel"], 16)
        self._pulses_per_degree = int(information["pulses"], 16) / travel_deg
        self.angle.vals = Limits(self.name, "angle", 0.0, float(travel_deg), "deg")

    def identity(self) -> Identity:
        """Type, serial number and firmware."""
        information = self._information()
        return Identity(
            "Thorlabs",
            f"ELL{int(information['type'], 16)}",
            information["serial"],
            str(int(information["firmware"], 16)),
        )

    def state_text(self) -> str:
        """The status in words; asking clears it."""
        return _STATUS.get(self._status(), "unknown status")

    def check_errors(self) -> None:
        """Raise CommandRejected if the mount reports an error; asking clears it."""
        if code := self._status():
            self._refuse("gs", code, b"")

    def home(self) -> None:
        """Move to the reference position, clockwise. Raises CommandRejected, NotReady."""
        self._move("ho0", 360.0)

    def safe(self) -> SafeReport:
        """A rotator holds its position; only the line is cleared. Idempotent; never raises."""
        try:
            with self.link.transaction(timeout_s=_ANSWER_TIMEOUT_S):
                self.link.mark_dirty()
                self._wake()
        except InstrumentError as error:
            return SafeReport(self.name, False, (f"holds its position: {error}",))
        return SafeReport(self.name, True, ("holds its position: mount answers",))

    def _wake(self) -> None:
        """Get a status out of the mount, even with half a command of a dead program on its side."""
        try:
            self._status()
        except (InstrumentTimeout, ProtocolError):
            self._listen(_PARTIAL_COMMAND_S)
            self._status()
        # the first reading has cleared what was left by others
        if (code := self._status()) not in (0, _BUSY):
            self._refuse("gs", code, b"")

    def _at_rest(self) -> bool:
        self.link.mark_dirty()  # the answer of another program's move is not for us
        return self._status() != _BUSY

    def _listen(self, wall_s: float) -> None:
        """Drop one message, or wait `wall_s` for none."""
        try:
            self.link.receive(timeout_s=wall_s)
        except InstrumentTimeout:
            pass
        self.link.mark_dirty()

    def _read_angle(self) -> float:
        return self._position("gp", self._ask("gp")) / self._calibration()

    def _move_to(self, angle_deg: float) -> None:
        pulses = round(angle_deg * self._calibration())
        with self.link.transaction():
            distance_deg = abs(angle_deg - self._read_angle())
            reached = self._move(f"ma{pulses:08X}", distance_deg)
        if abs(reached - pulses) > _TOLERANCE_PULSES:
            raise NotReady(
                f"stopped at {reached / self._calibration():.3f} deg instead of {angle_deg:.3f} deg",
                instrument=self.name,
                command=f"{self._bus_address}ma{pulses:08X}",
                hint="home the mount; if this comes back, clean it and run the frequency search",
            )

    def _move(self, command: str, distance_deg: float) -> int:
        """Do a move and return the position reported at its end, in pulses. Never repeated."""
        deadline_s = _LONGEST_START_S + distance_deg / _SLOWEST_DEG_PER_S
        begin_s = self.clock.now()
        try:
            answer = self._ask(command, timeout_s=_MOVE_TIMEOUT_S)
        except InstrumentTimeout:
            self._unfinished_move = True
            raise
        if (duration_s := self.clock.now() - begin_s) > deadline_s:
            raise NotReady(
                f"the move took {duration_s:.1f} s, more than {deadline_s:.1f} s",
                instrument=self.name,
                command=f"{self._bus_address}{command}",
                received=answer.encode(),
                hint="check that nothing slows the mount; if it is free, run the frequency search",
            )
        return self._position(command, answer)

    def _calibration(self) -> float:
        if self._pulses_per_degree != self._pulses_per_degree:
            raise NotReady("its travel is not known yet", instrument=self.name, hint="call start() first")
        return self._pulses_per_degree

    def _information(self) -> re.Match[str]:
        answer = self._ask("in")
        information = _INFORMATION.fullmatch(answer[3:])
        if answer[1:3] != "IN" or information is None or not int(information["travel"], 16):
            self._misfit("in", answer)
        return information

    def _status(self) -> int:
        answer = self._ask("gs")
        if re.fullmatch(r"GS..", answer[1:]) is None:
            self._misfit("gs", answer)
        return int(answer[3:], 16)

    def _position(self, command: str, answer: str) -> int:
        """The signed position in a PO answer. Raises CommandRejected for an error status."""
        if re.fullmatch(r"GS..", answer[1:]) and (code := int(answer[3:], 16)):
            self._refuse(command, code, answer.encode())
        if re.fullmatch(r"PO.{8}", answer[1:]) is None:
            self._misfit(command, answer)
        unsigned = int(answer[3:], 16)
        return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned

    def _ask(self, command: str, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> str:
        """The answer of this mount, from its address on."""
        with self.link.transaction():
            if self._unfinished_move:
                self._forget_unfinished_move()
            answer = self._exchange(f"{self._bus_address}{command}", timeout_s)
        match = _ANSWER.fullmatch(answer)
        if match is None or match[1] != self._bus_address:
            self._misfit(command, answer)
        return answer

    def _forget_unfinished_move(self) -> None:
        """The late answer of a timed-out move may still come: take none before the mount is at rest."""
        status = self._exchange(f"{self._bus_address}gs", _ANSWER_TIMEOUT_S)
        while not re.fullmatch(rf"{self._bus_address}GS..", status):
            status = self.link.receive(timeout_s=_ANSWER_TIMEOUT_S).decode("latin-1")
        if (code := int(status[3:], 16)) == _BUSY:
            self._refuse("gs", code, status.encode())
        self._unfinished_move = False

    def _exchange(self, command: str, timeout_s: float) -> str:
        try:
            answer = self.link.query(command.encode(), timeout_s=timeout_s)
        except ProtocolError as error:
            # the link has sent nothing yet, so even a move may be sent now
            if not all(_BUTTON.fullmatch(line) for line in error.received.split(b"\r\n") if line):
                raise
            answer = self.link.query(command.encode(), timeout_s=timeout_s)
        return answer.decode("latin-1")

    def _refuse(self, command: str, code: int, received: bytes) -> NoReturn:
        raise CommandRejected(
            f"status {code}, {_STATUS.get(code, 'unknown status')}",
            code=code,
            instrument=self.name,
            command=f"{self._bus_address}{command}",
            received=received,
            hint=_HINTS.get(code, "check the command and the state of the mount"),
        )

    def _misfit(self, command: str, answer: str) -> NoReturn:
        self.link.mark_dirty()
        raise ProtocolError(
            "the answer does not fit the question",
            instrument=self.name,
            command=f"{self._bus_address}{command}",
            received=answer.encode("latin-1"),
            hint="check the bus address, and that no other program talks on this bus",
        )
