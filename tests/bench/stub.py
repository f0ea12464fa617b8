"""Instruments for tests: a lamp whose light is a file, and a rogue that breaks every promise.

A lamp shines while its file says "on". Every `safe()` leaves a line in the log beside it. A file `.stuck`
beside it keeps the light on, a file `.broken` keeps it from being opened, a file `.deaf` from being started.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from qcodes import validators as vals

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument, SafeReport
from labctl.instruments.errors import InstrumentDisconnected, InstrumentTimeout


class Lamp(LabInstrument):
    """A lamp at `file://PATH`. answer_s: wall time that a slow answer takes."""

    def __init__(
        self, name: str, address: str, *, clock: Clock | None = None, answer_s: float = 0.0
    ) -> None:
        self._path = Path(address.removeprefix("file://"))
        if self._path.with_suffix(".broken").exists():
            raise InstrumentDisconnected("the lamp is unplugged", instrument=name)
        super().__init__(name, clock=clock)
        self._answer_s = answer_s
        self.emission = self.add_parameter(
            "emission",
            docstring="Light.",
            get_cmd=lambda: self._path.read_text() == "on",
            set_cmd=lambda on: self._path.write_text("on" if on else "off"),
            vals=vals.Bool(),
        )
        self.temperature = self.add_parameter("temperature", unit="K", get_cmd=self._slow_answer)

    def _slow_answer(self) -> float:
        time.sleep(self._answer_s)
        return 4.2

    def establish(self) -> None:
        """Nothing, unless the lamp is deaf."""
        if self._path.with_suffix(".deaf").exists():
            raise InstrumentTimeout("no answer", instrument=self.name)

    def safe(self) -> SafeReport:
        """Light off, unless the lamp is stuck."""
        with self._path.with_suffix(".log").open("a") as log:
            log.write(f"safe {os.getpid()} {time.monotonic()}\n")
        if self._path.with_suffix(".stuck").exists():
            return SafeReport(self.name, False, ("stuck",))
        self.emission(False)
        return SafeReport(self.name, not self.emission(), ("light off",))


class Rogue(LabInstrument):
    """An instrument whose `safe()` never comes back, or raises. address: `rogue:hang` or `rogue:raise`."""

    def __init__(self, name: str, address: str, *, clock: Clock | None = None) -> None:
        super().__init__(name, clock=clock)
        self._hangs = address.endswith("hang")

    def safe(self) -> SafeReport:
        if self._hangs:
            threading.Event().wait()
        raise RuntimeError("the key is stuck")
