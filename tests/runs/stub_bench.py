"""A bench without twin, sockets or threads, for driving the engine through any sequence of incidents.

Everything that the engine touches is a stub that belongs to one `World`: sources, a knob, a tagger, two
sensors, the heart, the clocks, and a store that passes everything on to a real one. Every touch is a tick of
the world, and incidents are planned for ticks: commands, interlocks, faults, a full disk, the death of the
guardian, the death of the process. Wall time and bench time are one virtual time.

The tagger says in its tags what was at the sample: `BRIGHT`, `LIT` or `DARK` tags in every slice.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from labctl.bench.heart import Kind
from labctl.instruments.base import SafeReport
from labctl.instruments.errors import InstrumentTimeout
from labctl.runs.remote import Command
from labctl.timetags import TagBlock

PS = 10**12
SLICE_S = 0.05
DARK, LIT, BRIGHT = 0, 10, 1000
"""Tags of channel 1 in one slice."""
BRIGHT_SLICES = 2
REACTION_S = 0.16
"""Longest time with light after an urgent command: a look every 100 ms, and the slice in hand."""
COMMANDS = ("pause", "pause_now", "continue", "stop", "abort", "keep_light", "note")
INCIDENTS = (
    *COMMANDS, "ctrl_c", "trip", "release", "trip_abort", "trip_safe", "bright", "disk_low", "disk_free",
    "backlog", "notice", "guardian_dies", "fault", "off_refused", "off_sticks", "death",
)  # fmt: skip


class Death(BaseException):
    """The process is gone: nothing that it does from here on has an effect."""


@dataclass
class World:
    """Time, the light at the sample, and what is going to happen.

    plan: incidents, each so many ticks after the one before it. due_s: when the next beat is promised.
    may_be_lit: whether the run is in a state that allows light. urgent_s: since when it should be dark.
    broken: rules that the engine broke, in words.
    """

    now_ps: int = 1000 * PS
    dead: bool = False
    plan: deque[tuple[int, str]] = field(default_factory=deque)
    sources: dict[str, Source] = field(default_factory=dict)
    switched: list[tuple[str, bool]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    may_be_lit: Callable[[], bool] = lambda: True
    put: Callable[[Command], None] = lambda command: None
    press_ctrl_c: Callable[[], None] = lambda: None
    temperature: float = 4.0
    pressure: float = 1.0
    field_t: float = 0.0
    bright_slices: int = 0
    faults: int = 0
    disk_low: bool = False
    backlog_full: bool = False
    notice: str = ""
    guardian: bool = True
    due_s: float = math.inf
    urgent_s: float = math.inf
    keeps_light: bool = False
    rests: int = 0
    epoch: int = 0

    @property
    def now_s(self) -> float:
        """Wall time and bench time."""
        return self.now_ps / PS

    def tick(self) -> None:
        """Something was touched. Raises Death when the process is to end here, or has ended."""
        if self.dead:
            raise Death
        if not self.plan:
            return
        left, incident = self.plan.popleft()
        if left > 0:
            self.plan.appendleft((left - 1, incident))
            return
        self._happen(incident)

    def pass_time(self, seconds: float) -> None:
        """Time goes by; it must not do so with light on in a state that allows none, nor without beats."""
        self.tick()
        self.now_ps += max(round(seconds * PS), 0)
        if not self.light_at_sample:
            self.urgent_s = math.inf
        elif not self.may_be_lit():
            self.broken.append(f"light at the sample while it must be dark: {self.on}")
        elif self.now_s - self.urgent_s > REACTION_S:
            self.broken.append(f"no answer for {self.now_s - self.urgent_s:.2f} s to what is urgent")
        if self.now_s > self.due_s:
            self.broken.append(f"the beat is {self.now_s - self.due_s:.2f} s late: the guardian ends the run")
            self.due_s = math.inf

    def rest(self, seconds: float) -> None:
        """The engine waits in the dark; when nothing is planned any more, every reason to wait goes away."""
        self.pass_time(seconds)
        self.rests += 1
        if self.rests > 200:
            raise AssertionError("the run waits for ever, although there is no reason left")
        if not self.plan:
            self.calm()
            self.put(Command("continue", ""))

    def calm(self) -> None:
        """Take away every reason for a run to stop or wait, except a dead guardian."""
        self.temperature, self.pressure, self.field_t = 4.0, 1.0, 0.0
        self.disk_low = self.backlog_full = False
        self.notice = ""
        self.bright_slices = self.faults = 0
        for source in self.sources.values():
            source.refusals = source.sticks = 0

    @property
    def on(self) -> list[str]:
        """The sources that are on."""
        return [name for name, source in self.sources.items() if source.is_on]

    @property
    def light_at_sample(self) -> bool:
        """The diode shines on the sample by itself, the laser through its shutter; the lamp is harmless."""
        on = set(self.on)
        return "diode" in on or {"laser", "shutter"} <= on

    def guardian_acts(self) -> None:
        """What the guardian does when the process has died."""
        for source in self.sources.values():
            source.is_on = False

    def _happen(self, incident: str) -> None:
        match incident:
            case "ctrl_c":
                self.press_ctrl_c()
            case "trip":
                self.temperature = 20.0
            case "release":
                self.temperature = 4.0
            case "trip_abort":
                self.pressure = 9.0
            case "trip_safe":
                self.field_t = 9.0
            case "bright":
                self.bright_slices = BRIGHT_SLICES
            case "disk_low":
                self.disk_low = True
            case "disk_free":
                self.disk_low = self.backlog_full = False
            case "backlog":
                self.backlog_full = True
            case "notice":
                self.notice = "the guardian closed the shutters"
            case "guardian_dies":
                self.guardian = False
            case "fault":
                self.faults += 1
            case "off_refused":
                self.sources["diode"].refusals += 1
            case "off_sticks":
                self.sources["shutter"].sticks += 1
            case "death":
                self.dead = True
                raise Death
            case _:
                self.keeps_light |= incident == "keep_light"
                self._weigh(incident)
                self.put(Command(incident, "planned"))


    def _weigh(self, command: str) -> None:
        """An abort is urgent for good; a pause until it is withdrawn, unless it leaves the light on."""
        if command == "abort" or (command == "pause_now" and not self.keeps_light):
            self.urgent_s = min(self.urgent_s, self.now_s)
        elif command in ("continue", "keep_light"):
            self.urgent_s = math.inf


class Clock:
    """Bench time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now_s

    def sleep(self, seconds: float) -> None:
        self._world.pass_time(seconds)


class Source:
    """Something with a switch; it may refuse to go off, or stay on in silence."""

    def __init__(self, world: World, name: str, switch: str) -> None:
        self.name = name
        self.is_on = False
        self.refusals = 0
        self.sticks = 0
        self._world = world
        setattr(self, switch, self._switch)
        world.sources[name] = self

    def _switch(self, on: bool | None = None) -> bool | None:
        self._world.tick()
        if on is None:
            return self.is_on
        self._world.switched.append((self.name, on))
        if not on and self.refusals:
            self.refusals -= 1
            raise InstrumentTimeout("no answer", instrument=self.name)
        if not on and self.sticks:
            self.sticks -= 1
            return None
        self.is_on = on
        return None


class Knob:
    """A value to set, which may fail."""

    def __init__(self, world: World) -> None:
        self.name = "knob"
        self.value = 0.0
        self._world = world

    def position(self, value: float | None = None) -> float:
        self._world.tick()
        if self._world.faults:
            self._world.faults -= 1
            raise InstrumentTimeout("no answer", instrument=self.name)
        if value is not None:
            self.value = value
        return self.value


class Tagger:
    """Streams slices whose tags tell the light; every tagger has an epoch and a zero of time of its own."""

    def __init__(self, world: World, epoch: int) -> None:
        self.name = "tagger"
        self._world = world
        self._epoch = epoch
        self._zero_ps = world.now_ps - 3 * PS

    def stream(self, channels: list[int], duration_s: float, slice_s: float) -> Iterator[TagBlock]:
        left_ps = round(duration_s * PS)
        while left_ps > 0:
            step_ps = min(left_ps, round(slice_s * PS))
            begin_ps = self._world.now_ps - self._zero_ps
            lit = self._world.light_at_sample
            self._world.pass_time(step_ps / PS)
            if self._world.faults:
                self._world.faults -= 1
                raise InstrumentTimeout("no tags", instrument=self.name)
            yield self._block(begin_ps, step_ps, lit and self._world.light_at_sample)
            left_ps -= step_ps

    def _block(self, begin_ps: int, step_ps: int, lit: bool) -> TagBlock:
        n = DARK
        if lit:
            n = BRIGHT if self._world.bright_slices else LIT
            self._world.bright_slices = max(self._world.bright_slices - 1, 0)
        times = begin_ps + np.arange(n, dtype=np.int64)
        return TagBlock(times, np.ones(n, dtype=np.int32), begin_ps, begin_ps + step_ps, epoch=self._epoch)


class Heart:
    """The beat; the world judges whether it came in time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def beat(self, limit_s: float = Kind.SLICE.default_s, what: str = "") -> None:
        self._world.tick()
        self._world.due_s = self._world.now_s + limit_s

    @contextmanager
    def promise(self, what: str, limit_s: float | None = None, kind: Kind = Kind.CODE) -> Iterator[None]:
        begin_s, outer_s = self._world.now_s, self._world.due_s
        limit_s = kind.default_s if limit_s is None else min(limit_s, kind.longest_s)
        self._world.due_s = self._world.now_s + limit_s
        try:
            yield
        finally:
            self._world.due_s = outer_s + self._world.now_s - begin_s

    def guardian_alive(self) -> bool:
        return self._world.guardian

    def notice(self) -> str:
        notice, self._world.notice = self._world.notice, ""
        return notice

    def restart_guardian(self) -> None:
        self._world.tick()
        self._world.guardian = True


class Store:
    """A real writer; the disk is as the world says, and a dead process writes nothing."""

    def __init__(self, world: World, writer: Any) -> None:
        self.last_row = -1
        self._world = world
        self._writer = writer

    def row(self, *arguments: Any) -> int:
        self._world.tick()
        self.last_row = self._writer.row(*arguments)
        self._world.tick()
        return self.last_row

    @property
    def disk_low(self) -> bool:
        return self._world.disk_low

    @property
    def backlog_full(self) -> bool:
        return self._world.backlog_full

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._writer, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            self._world.tick()
            found = value(*arguments, **options)
            self._world.tick()
            return found

        return call


def stub_bench(world: World) -> SimpleNamespace:
    """A bench on which a process that has just begun finds everything dark."""
    world.sources.clear()
    world.epoch += 1
    bench = SimpleNamespace(
        clock=Clock(world),
        heart=Heart(world),
        twin=None,
        config=SimpleNamespace(kept_warm={"laser": "shutter"}),
        laser=Source(world, "laser", "emission"),
        shutter=Source(world, "shutter", "open"),
        diode=Source(world, "diode", "enabled"),
        lamp=Source(world, "lamp", "output"),
        knob=Knob(world),
        tagger=Tagger(world, world.epoch),
    )

    def safe() -> list[SafeReport]:
        world.tick()
        world.guardian_acts()
        return [SafeReport(name, True) for name in world.sources]

    bench.safe = safe
    return bench
