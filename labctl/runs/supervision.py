"""Keeping a run in order while its experiment's code runs: requests, interlocks, guardian, disk, state.

The engine calls `look` at the borders of points and inside its waits. It tells the guardian that the run
lives, obeys what was asked, and holds the run in the dark for as long as there is a reason to: somebody
paused it, an interlock tripped, the disk is full, the guardian is gone. When the last reason has gone the
light comes back, settles, and the run goes on with what was cut.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from labctl.bench.bench import Bench
from labctl.bench.heart import Kind
from labctl.errors import LabctlError
from labctl.runs.detector_guard import DetectorGuard
from labctl.runs.hooks import Hooks
from labctl.runs.interrupts import AFTER_POINT, NOW, Requests
from labctl.runs.light import Light
from labctl.runs.progress import Progress, Silent
from labctl.runs.remote import Command
from labctl.runs.states import LIT, State, StateMachine
from labctl.runs.watch import Trip, Watchman
from labctl.settings import HookEvent
from labctl.store import RunWriter, StoreError
from labctl.timetags import TagBlock

LOOK_S = 0.1
"""Longest wall time between two looks inside a wait."""
REST_S = 0.1
"""Wall time between two looks in the dark."""
CHECK_S = 0.05
"""Wall time between two checks of guardian, disk and watches."""
GUARD_HOLD_S = 1.0
"""Bench time in the dark after the detector guard has tripped."""
_ADVICE = {State.PAUSED: "; `labctl continue` goes on"}


class RunStopped(Exception):
    """The run was asked to stop; what was committed is kept."""


class CannotDarken(LabctlError):
    """A source could not be switched off while the run waits; everything is made safe and the run ends."""


@dataclass(frozen=True)
class _Hold:
    """Why the run waits in the dark; `news` is what the hook is told of it."""

    state: State
    reason: str
    news: HookEvent | None = None


class Supervisor:
    """Between the engine and everything that may stop it.

    settle_s: bench time that the light needs after it was switched on again. watchman, guard: interlocks and
    detector guard of the bench, if it has them.
    """

    def __init__(
        self,
        bench: Bench,
        writer: RunWriter,
        *,
        requests: Requests | None = None,
        progress: Progress | None = None,
        hooks: Hooks | None = None,
        watchman: Watchman | None = None,
        guard: DetectorGuard | None = None,
        settle_s: float = 0.0,
    ) -> None:
        self.requests = requests or Requests()
        self.heart = bench.heart
        self.machine = StateMachine(self._changed)
        self.light = Light(self.event, bench.config.kept_warm)
        self._bench = bench
        self._writer = writer
        self._progress: Progress = progress or Silent()
        self._hooks = hooks
        self._watchman = watchman
        self._guard = guard
        self._settle_s = settle_s
        self._guardian_lost = False
        self._keep_light = False
        self._names: dict[Any, tuple[str, str]] = {}
        self._next_check_s = 0.0
        self._last_s = 0.0

    # -- looking up ----------------------------------------------------------------------------------------

    def look(self, *, border: bool = False) -> bool:
        """Obey what was asked; True when the light was taken away, so that what is in hand is cut.

        border: between two points, where a deferred pause or stop comes due. Raises RunStopped.
        """
        self.heart.beat(Kind.CODE.default_s)
        if self.requests.pending:
            self._obey(NOW if not border else AFTER_POINT)
        elif time.monotonic() < self._next_check_s:
            return False
        hold = self._hold(border)
        if hold is None:
            return False
        self._wait_in_the_dark(hold)
        return True

    def stop_if(self, level: int) -> None:
        """Leave the experiment if a stop of this urgency was asked for. Raises RunStopped."""
        if self.requests.stop_level < level:
            return
        at_border = self.requests.stop_level == AFTER_POINT and self.machine.state in LIT
        self.machine.to(State.STOPPING if at_border else State.ABORTING, self.requests.stop_reason)
        raise RunStopped(self.requests.stop_reason)

    def wait(self, seconds: float) -> bool:
        """Let bench time pass, looking up every 100 ms of it; True if the run was held up meanwhile."""
        whole, rest_s = divmod(seconds, LOOK_S)
        held_up = False
        for step_s in (*repeat(LOOK_S, int(whole)), rest_s):
            self._bench.clock.sleep(step_s)
            held_up |= self.look()
        return held_up

    def guard(self, block: TagBlock) -> str:
        """Close the shutters if the counts in `block` endanger the detectors; why, or ""."""
        if self._guard is None or not self._guard.update(block):
            return ""
        reason = self._guard.reason
        self._enter(_Hold(State.SUSPENDED, reason))
        self.event("detector_guard", begin_ps=block.begin_ps, end_ps=block.end_ps, reason=reason)
        self._tell("trip", reason)
        self.wait(GUARD_HOLD_S)
        self._relight()
        self.wait(self._settle_s)
        return reason

    def _obey(self, level: int) -> None:
        while not self.requests.commands.empty():
            self._carry_out(self.requests.commands.get())
        if self.requests.stop_level == AFTER_POINT and self.machine.state in (State.RUNNING, State.PAUSING):
            self.machine.to(State.STOPPING, self.requests.stop_reason)
        self.stop_if(level)

    def _carry_out(self, command: Command) -> None:
        reason = command.reason or f"`labctl {command.kind.replace('_now', ' --now')}`"
        match command.kind:
            case "pause" | "pause_now":
                self.requests.ask_pause(reason, now=command.kind == "pause_now")
            case "continue":
                self.requests.withdraw_pause()
            case "stop":
                self.requests.ask_stop(AFTER_POINT, reason)
            case "abort":
                self.requests.ask_stop(NOW, reason)
            case "keep_light":
                self._keep_light = True
                self.event("keep_light_on_pause", instrument="all", reason=reason)
            case "note":
                self.event("note", text=command.reason)

    # -- reasons to be dark --------------------------------------------------------------------------------

    def _hold(self, border: bool) -> _Hold | None:
        """The most urgent reason to be dark now. Raises RunStopped when an interlock ends the run."""
        self._check()
        if self._guardian_lost:
            return _Hold(State.PAUSED, self.requests.pause, "guardian")
        if self.requests.pause:
            if border or self.requests.pause_now or self.machine.state not in LIT:
                return _Hold(State.PAUSED, self.requests.pause)
            if self.machine.state is State.RUNNING:
                self.machine.to(State.PAUSING, self.requests.pause)
        elif self.machine.state is State.PAUSING:
            self.machine.to(State.RUNNING, "the pause was withdrawn")
        if self._watchman is not None and self._watchman.tripped:
            return _Hold(State.SUSPENDED, "; ".join(trip.reason for trip in self._watchman.tripped))
        if self._writer.disk_low:
            reason = f"{self._writer.directory}: the disk is nearly full; make room"
            return _Hold(State.SUSPENDED, reason, "low_disk")
        if self._writer.backlog_full:
            return _Hold(State.SUSPENDED, "the disk is slower than the tags; waiting for it")
        if notice := self.heart.notice():
            return _Hold(State.SUSPENDED, notice)
        return None

    def _check(self) -> None:
        self._next_check_s = time.monotonic() + CHECK_S
        if not self._guardian_lost and not self.heart.guardian_alive():
            self._guardian_lost = True
            self.requests.ask_pause("the guardian process has died", now=True)
        if self._watchman is not None:
            findings = self._watchman.look(self.now_s())
            for reading in findings.readings:
                self._writer.monitor(reading.name, reading.value, reading.unit, reading.time_s)
            for release in findings.releases:
                self.event("interlock_released", interlock=release.condition.watch, reason=release.reason)
            for trip in findings.trips:
                self._trip(trip)

    def _trip(self, trip: Trip) -> None:
        action = trip.condition.action
        self.event("interlock_tripped", interlock=trip.condition.watch, reason=trip.reason, action=action)
        self._tell("trip", trip.reason)
        if action == "suspend":
            return
        if action == "safe":
            self.light.darken(everything=True)
            self._bench.safe()
        self.requests.ask_stop(NOW, f"interlock: {trip.reason}")
        self.stop_if(NOW)

    # -- dark and light again ------------------------------------------------------------------------------

    def _wait_in_the_dark(self, hold: _Hold) -> None:
        """Until there is no reason left, not even one that comes up while the light settles."""
        if hold.news is not None:
            self._tell(hold.news, hold.reason)
        present: _Hold | None = hold
        while present is not None:
            self._hold_out(present)
            self._relight()
            present = self._settle()

    def _hold_out(self, hold: _Hold) -> None:
        waiting: _Hold | None = hold
        while waiting is not None:
            self._enter(waiting)
            self._rest()
            if self.requests.pending:
                self._obey(AFTER_POINT)
            if self._guardian_lost and not self.requests.pause:
                self._restart_guardian()
            waiting = self._hold(border=True)

    def _enter(self, hold: _Hold) -> None:
        """Take the state of a hold, and the light away unless a pause is to leave it on."""
        lit = self._keep_light and hold.state is State.PAUSED and not self._guardian_lost
        if not lit and not self.light.dark:
            self._darken(hold.reason)
        self.machine.to(hold.state, hold.reason)  # now that it is true
        if lit and self.light.dark:
            self.light.restore()

    def _darken(self, reason: str) -> None:
        failures = self.light.darken(everything=self._guardian_lost)
        if failures:
            self._bench.safe()
            raise CannotDarken(
                f"{reason}, but {failures[0]}; the run ends with everything made safe"
            ) from failures[0]

    def _relight(self) -> None:
        self.heart.beat(Kind.CODE.default_s)
        self._keep_light = False
        if self.machine.state not in LIT:  # another hold may have ended in the meantime
            self.machine.to(State.RUNNING, "the light comes back")
        if self.light.dark:
            self.light.restore()

    def _settle(self) -> _Hold | None:
        """Let the light settle; the reason to be dark again that comes up meanwhile, if one does."""
        whole, rest_s = divmod(self._settle_s, LOOK_S)
        for step_s in (*repeat(LOOK_S, int(whole)), rest_s):
            self._bench.clock.sleep(step_s)
            self.heart.beat(Kind.CODE.default_s)
            if self.requests.pending:
                self._obey(NOW)
            if (hold := self._hold(border=False)) is not None:
                return hold
        return None

    def _rest(self) -> None:
        """A moment of wall time, in which as much bench time passes."""
        self.heart.beat(Kind.CODE.default_s)
        time.sleep(REST_S)
        if self._bench.twin is not None:
            self._bench.clock.sleep(REST_S)

    def _restart_guardian(self) -> None:
        self.heart.restart_guardian()
        self._guardian_lost = False
        self.event("guardian_restarted")

    # -- telling -------------------------------------------------------------------------------------------

    def acquired(self, seconds: float, rates: dict[str, float]) -> None:
        """`seconds` of bench time were acquired."""
        self._progress.advance(seconds, rates)

    def points(self, done: int, total: int) -> None:
        """So many points of the present sweep are behind us."""
        self._progress.points(done, total)

    def event(self, kind: str, **fields: Any) -> None:
        """Put a remark into the record."""
        self._writer.event(kind, self.now_s(), **fields)

    def now_s(self) -> float:
        """Bench time, or the last one known: a twin that has died must not keep the run from its record."""
        with suppress(LabctlError):
            self._last_s = self._bench.clock.now()
        return self._last_s

    def audit(self, parameter: Any, value: Any) -> None:
        """Record that a parameter was set; a journal that fails is told of by the next record."""
        names = self._names.get(parameter)
        if names is None:
            names = self._names[parameter] = _names_of(parameter)
        now_s = self._last_s if self._bench.twin else self._bench.clock.now()
        try:  # not `suppress`, which costs as much as the rest
            self._writer.audit(*names, value, now_s)
        except StoreError:
            pass

    def _changed(self, state: State, reason: str) -> None:
        self.event("state", state=str(state), reason=reason)
        self._progress.state(str(state))
        if state in (State.PAUSED, State.SUSPENDED):
            self._progress.say(f"{state}: {reason}{_ADVICE.get(state, '')}")

    def _tell(self, event: HookEvent, reason: str) -> None:
        if self._hooks is not None:
            self._hooks.fire(event, reason=reason)


def _names_of(parameter: Any) -> tuple[str, str]:
    """The instrument's name ("" without one) and the parameter's within it."""
    if parameter.root_instrument is None:
        return "", parameter.name
    instrument, *names = parameter.name_parts
    return instrument, ".".join(names)
