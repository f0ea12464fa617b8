"""Opening the instruments of a bench anew, in the guardian, and making them safe.

All links are opened at once, each retried for a while, because a serial port is free only when the system has
closed what the dead process held. A step waits for its own instrument only. Nothing is established before all
shutters and sources were attended to; then only what a derived instrument needs of those beneath it (a
rotator that has to know its own travel).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from labctl.bench.building import build
from labctl.bench.config import BenchConfig
from labctl.bench.safety import (
    EMISSION,
    LIGHT_LIMIT_S,
    SHUTTERS,
    THE_REST,
    SafeStep,
    beneath,
    carry_out,
    stage_of,
    within,
)
from labctl.clock import Clock, WallClock
from labctl.instruments.base import LabInstrument, SafeReport

OPEN_S = 2.0
"""Wall time for which opening a link is retried."""
PATIENCE_S = {SHUTTERS: 0.02, EMISSION: 0.5}
"""Shutters begin first, but light is on that nobody minds: sources on other wires do not wait for them."""
CLOSE_S = 0.5
MOST_HANGING = 3
"""Attempts at one instrument that may hang; another one is made only when one of them has come back."""
_RETRY_S = 0.01


@dataclass
class Charge:
    """What the guardian watches over.

    drivers: classes by instrument, loaded in advance, because folders may be gone when it matters. addresses:
    resolved, by instrument. stages: in which each instrument is made safe, once that is known.
    """

    config: BenchConfig
    drivers: Mapping[str, Any]
    addresses: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)
    clock: Clock = field(default_factory=WallClock)

    @property
    def uses(self) -> dict[str, list[str]]:
        """The instruments beneath each derived one."""
        return {name: list(config.uses.values()) for name, config in self.config.instruments.items()}


class Rescue:
    """Some instruments of a bench (by default all), opened by this process.

    open_s: wall time for which opening a link is retried.
    """

    def __init__(
        self, charge: Charge, names: Collection[str] | None = None, open_s: float = OPEN_S
    ) -> None:
        self._charge = charge
        self._open_s = open_s
        wanted = charge.config.instruments if names is None else names
        needed = frozenset().union(*(beneath(name, charge.uses) for name in wanted))
        self._names = [name for name in charge.config.instruments if name in needed]
        self._wanted = [name for name in self._names if name in wanted]
        self._opening: dict[str, Future[LabInstrument]] = {}
        self._established: set[str] = set()
        self._hanging: Counter[str] = Counter()
        self._open(self._names)

    def make_safe(self, names: Collection[str] | None = None) -> list[SafeReport]:
        """Make the instruments (or those of them that are named) safe and read back; never raises."""
        stages = self._charge.stages or self._stages_as_opened()
        steps = [
            SafeStep(
                name, stages.get(name, THE_REST), partial(self._attend, name, stages.get(name, THE_REST)),
                beneath(name, self._charge.uses),
            )
            for name in self._wanted
            if names is None or name in names
        ]  # fmt: skip
        return carry_out(steps, patience_s=PATIENCE_S)

    def reopen(self, names: Collection[str]) -> None:
        """Close these instruments, and all on the same wire, and open them again."""
        uses = self._charge.uses
        wires = frozenset().union(*(beneath(name, uses) for name in names))
        again = [name for name in self._names if beneath(name, uses) & wires]
        self._close(again)
        self._open(again)

    def close(self) -> None:
        """Close all instruments; one that hangs is left behind."""
        self._close(self._names)

    def _open(self, names: list[str]) -> None:
        for name in names:
            if name in self._opening and not self._opening[name].done():
                continue  # it hangs on the way: another attempt would meet the same
            self._opening[name] = Future()
            threading.Thread(target=self._open_one, args=(name,), name=f"open-{name}", daemon=True).start()

    def _open_one(self, name: str) -> None:
        future = self._opening[name]
        deadline = time.monotonic() + self._open_s
        while not future.done():
            try:
                future.set_result(self._build(name))
            except BaseException as error:  # whatever a driver raises, the instrument may come yet
                if time.monotonic() >= deadline:
                    future.set_exception(error)
                else:
                    threading.Event().wait(_RETRY_S)

    def _build(self, name: str) -> LabInstrument:
        config = self._charge.config
        parents = {
            used: self._opening[used].result(LIGHT_LIMIT_S) for used in config.instruments[name].uses.values()
        }
        self._forget(name)
        return build(
            config, name, config.bench, driver=self._charge.drivers[name],
            address=self._charge.addresses.get(name), clock=self._charge.clock, instruments=parents,
        )  # fmt: skip

    def _attend(self, name: str, stage: int) -> SafeReport:
        if self._hanging[name] >= MOST_HANGING:
            return SafeReport(name, False, (f"{MOST_HANGING} attempts hang and do not come back",))
        self._hanging[name] += 1
        try:
            instrument = self._opening[name].result(LIGHT_LIMIT_S)
            if stage == THE_REST:
                self._establish(beneath(name, self._charge.uses) - {name})
            return instrument.safe()
        finally:
            self._hanging[name] -= 1

    def _establish(self, names: Collection[str]) -> None:
        for name in self._names:
            if name in names and name not in self._established:
                self._opening[name].result(0).establish()
                self._established.add(name)

    def _stages_as_opened(self) -> dict[str, int]:
        """The stages, from the instruments that could be opened; those of others do not matter."""
        deadline = time.monotonic() + self._open_s
        stages = {}
        for name in self._wanted:
            with suppress(BaseException):
                left_s = max(deadline - time.monotonic(), 0.0)
                stages[name] = stage_of(self._opening[name].result(left_s))
        return stages

    def _close(self, names: Collection[str]) -> None:
        for name in reversed([name for name in self._names if name in names]):
            self._established.discard(name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Close an instrument of that name, if there is one, and let its name be used again."""
        if not LabInstrument.exist(name):
            return
        instrument = LabInstrument.find_instrument(name)
        # it was made safe, or will be: closing is to free its port and no more
        own_port = name in self._charge.addresses and instrument.__dict__.get("link") is None
        close = instrument.close if own_port else partial(LabInstrument.close, instrument)  # type: ignore[arg-type]
        with suppress(Exception):
            within(CLOSE_S, close, "closing")
        with suppress(Exception):
            LabInstrument.remove_instance(instrument)
