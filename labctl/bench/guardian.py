"""The guardian: a process beside every bench process that makes the bench safe when that one cannot.

Run by the bench process as `python -P -m labctl.bench.guardian`. It is told over its standard input what to
watch over, loads the same drivers, and then waits with nothing left to do but open the links. It acts when
the engine has died, when its channel ends without a goodbye, when it is asked to, and when a promised beat
stays out beyond its limit (see `labctl.bench.heart`); then it ends the engine with its process group first.
It makes all instruments safe until every read-back agrees, and holds their locks until then. Signals of the
terminal do not reach it; SIGTERM makes it give up what it has tried in vain to make safe, and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from labctl.bench.ending import Family, await_death
from labctl.bench.heart import KILL_GRACE_S
from labctl.bench.locks import BenchBusy, Locks, Owner
from labctl.bench.orders import Order, Orders
from labctl.bench.page import Beat, Page
from labctl.bench.preparation import Preparation
from labctl.bench.record import Record
from labctl.bench.rescue import Charge, Rescue
from labctl.bench.safety import SHUTTERS, beneath

TICK_S = 0.02
WARN_S = 0.1
"""Overdue time after which the shutters are closed beside the engine."""
LONGEST_STEP_S = 0.1
LAST_WORDS_S = 0.5
"""Wall time between the end of the channel and that of the engine, which come together when it dies."""
DEATH_S = 2.0
FAMILY_S = 0.5
RETRY_S = 0.2
PATIENT_S = 60.0
"""From then on what is still not safe is tried again only every `SLOW_RETRY_S`; on a twin it is given up."""
SLOW_RETRY_S = 5.0


class Overdue:
    """For how long a promised beat has been out, in wall time that the guardian has itself seen pass.

    When the whole machine stands still, or starves the guardian too, the engine is not to blame: of a step
    between two looks at most `LONGEST_STEP_S` counts.
    """

    def __init__(self) -> None:
        self._number = -1
        self._looked_s = float("inf")
        self._overdue_s = 0.0

    def look(self, now_s: float, beat: Beat) -> float:
        """The overdue time in s; 0 as long as the promise holds."""
        step_s = min(max(now_s - self._looked_s, 0.0), LONGEST_STEP_S)
        self._looked_s = now_s
        kept = beat.number != self._number or now_s <= beat.due_s
        self._number = beat.number
        self._overdue_s = 0.0 if kept else self._overdue_s + step_s
        return self._overdue_s


@dataclass(frozen=True)
class Trip:
    """Why the guardian takes over; `kill` if the engine has to be ended first."""

    reason: str
    kill: bool = False
    names: tuple[str, ...] | None = None


class Guardian:
    """The process: `run` returns when the bench is safe, or was left so by its engine."""

    def __init__(self, engine_pid: int, page: Page) -> None:
        self._engine_pid = engine_pid
        self._page = page
        self._events: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._record = Record(engine_pid)
        self._family = Family(engine_pid)
        self._looked_at_family_s = 0.0
        self._overdue = Overdue()
        self._preparation: Preparation | None = None
        self._locks = Locks()
        self._command = ""
        self._stages: dict[str, int] = {}
        self._closing: threading.Thread | None = None
        self._give_up = threading.Event()

    def run(self) -> None:
        """Watch, and act when it is time to."""
        listeners = (partial(Orders(0).read_into, self._events), self._watch_engine)
        for listener in listeners:
            threading.Thread(target=listener, daemon=True).start()
        trip = self._watch()
        if trip is not None:
            self._take_over(trip)
        self._locks.release()

    def give_up(self) -> None:
        """Stop trying to make safe what was tried in vain; from a signal handler."""
        self._give_up.set()

    def _watch_engine(self) -> None:
        await_death(self._engine_pid)
        self._events.put(Order("death"))

    def _watch(self) -> Trip | None:
        """Until something happens that needs action; None: the engine said goodbye and all is safe."""
        while True:
            order = self._next_order(TICK_S)
            self._page.tick(time.monotonic(), self._preparation is not None and self._preparation.complete)
            if order is None:
                trip = self._look()
            elif order.name == "goodbye":
                names = tuple(order.fields["unsafe"])
                return Trip("the engine could not make everything safe", names=names) if names else None
            else:
                trip = self._obey(order)
            if trip is not None:
                return trip

    def _next_order(self, timeout_s: float) -> Order | None:
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _obey(self, order: Order) -> Trip | None:
        match order.name:
            case "prepare":
                self._preparation = Preparation(order.fields["config"])
            case "open" if self._preparation is not None:
                self._command = order.fields["command"]
                if order.descriptors:
                    self._locks = Locks.adopt(order.fields["locks"], order.descriptors)
                self._preparation.connect(order.fields["addresses"], order.fields["twin"])
                gc.freeze()  # what is loaded now stays; collections have less to do when it matters
            case "built":
                self._stages = dict(order.fields["stages"])
            case "record":
                self._record.write_into(Path(order.fields["folder"]))
            case "take over":
                return Trip(f"the engine asked for it: {order.fields['reason']}", kill=True)
            case "death":
                return self._after_last_words("the engine died")
            case "end of channel":
                return self._after_the_channel()
        return None

    def _after_last_words(self, reason: str) -> Trip | None:
        """What the engine still said before it died counts; it may have been goodbye."""
        while (order := self._next_order(LAST_WORDS_S)) is not None and order.name != "end of channel":
            if order.name == "goodbye":
                return Trip(reason, names=tuple(order.fields["unsafe"]))
            self._obey(order)
        self._family.end_rest()
        return Trip(reason)

    def _after_the_channel(self) -> Trip:
        """A dying engine closes its channel a moment before it is dead; any other has lost its mind."""
        reason = "the engine left without a goodbye"
        order = self._next_order(LAST_WORDS_S)
        if order is None:
            return Trip(reason, kill=True)
        self._family.end_rest()
        return Trip(reason)

    def _look(self) -> Trip | None:
        now_s = time.monotonic()
        beat = self._page.read_beat()
        overdue_s = self._overdue.look(now_s, beat)
        if overdue_s >= KILL_GRACE_S:
            return Trip(f"no beat within the limit, while {beat.what or 'running'}", kill=True)
        if overdue_s >= WARN_S and self._closing is None:
            self._warn(beat)
        if not overdue_s and self._closing is not None and not self._closing.is_alive():
            self._closing = None
        if now_s - self._looked_at_family_s >= FAMILY_S:
            self._looked_at_family_s = now_s
            self._family.look()
        return None

    def _warn(self, beat: Beat) -> None:
        """Close the shutters beside the engine; it is told, if it comes back."""
        what = beat.what or "running"
        self._record.write("missed beat", during=what)
        self._closing = threading.Thread(target=self._close_shutters, args=(what,), daemon=True)
        self._closing.start()

    def _close_shutters(self, what: str) -> None:
        charge = self._charge()
        names = [name for name, stage in charge.stages.items() if stage == SHUTTERS and _shared(charge, name)]
        rescue = Rescue(charge, names, open_s=0.0)
        reports = rescue.make_safe()
        rescue.close()
        closed = [report.instrument for report in reports if report.safe]
        self._record.write("shutters closed beside the engine", reports=[str(report) for report in reports])
        done = f"closed {', '.join(closed)}" if closed else "could close no shutter beside it"
        self._page.put_notice(f"the guardian missed a beat, while {what}, and {done}")

    def _take_over(self, trip: Trip) -> None:
        begin_s = time.monotonic()
        if trip.kill:
            self._family.end()
            self._await_death()
        preparation = self._preparation
        if preparation is None or not preparation.connected or trip.names == ():
            return  # no link was ever opened, or all was safe
        self._record.write("takes over", reason=trip.reason, killed=trip.kill)
        if self._hold_locks(preparation):
            preparation.take_time()
            self._make_safe(preparation, trip, begin_s)

    def _hold_locks(self, preparation: Preparation) -> bool:
        """Put our name on the locks; where they could not be shared, take them now that they are free."""
        owner = Owner.here(f"guardian of {self._command}")
        self._locks.sign(owner)
        if self._locks.descriptors or not preparation.charge.addresses:
            return True
        try:
            self._locks = Locks.acquire(preparation.charge.addresses, owner, DEATH_S)
        except BenchBusy as error:
            self._record.write("another program owns the bench now", reason=str(error))
        return bool(self._locks.descriptors)

    def _make_safe(self, preparation: Preparation, trip: Trip, begin_s: float) -> None:
        rescue = Rescue(self._charge(), trip.names)
        unsafe = list(trip.names or preparation.config.instruments)
        self._give_up.clear()
        while unsafe:
            reports = rescue.make_safe(unsafe)
            unsafe = [report.instrument for report in reports if not report.safe]
            spent_s = time.monotonic() - begin_s
            self._record.write("made safe", after_s=spent_s, reports=[str(report) for report in reports])
            if not unsafe:
                self._record.say(f"{trip.reason}; all instruments are safe after {spent_s:.2f} s")
            elif preparation.bench_is_gone():
                self._record.write("the twin is gone", reports=unsafe)
                return
            elif self._gives_up(preparation, unsafe, spent_s):
                self._record.write("gives up", reports=unsafe)
                return
            else:
                rescue.reopen(unsafe)

    def _gives_up(self, preparation: Preparation, unsafe: list[str], spent_s: float) -> bool:
        """Wait before the next attempt; from some time on long, and not without telling the user.

        Then it gives up a twin, where nothing is at stake, and a bench that was never opened as a whole: what
        does not answer now did not answer before, and was not switched on.
        """
        names = ", ".join(unsafe)
        if spent_s >= PATIENT_S:
            if preparation.on_twin or not self._stages:
                return True
            self._record.say(f"{names} NOT SAFE after {spent_s:.0f} s; switch off by hand")
            self._locks.sign(Owner.here(f"guardian of {self._command}, still trying to make {names} safe"))
        return self._give_up.wait(SLOW_RETRY_S if spent_s >= PATIENT_S else RETRY_S)

    def _charge(self) -> Charge:
        assert self._preparation is not None
        return replace(self._preparation.charge, stages=self._stages)

    def _await_death(self) -> None:
        deadline = time.monotonic() + DEATH_S
        while (left_s := deadline - time.monotonic()) > 0:
            order = self._next_order(left_s)
            if order is not None and order.name == "death":
                return


def _shared(charge: Charge, name: str) -> bool:
    """Whether everything beneath an instrument may be talked to over a second connection."""
    addresses = [charge.addresses[part] for part in beneath(name, charge.uses) if part in charge.addresses]
    return all(address.startswith("tcp://") for address in addresses)


def main() -> int:
    """Guard a bench until it is safe."""
    parser = argparse.ArgumentParser(prog="python -m labctl.bench.guardian", description="Guard a bench.")
    parser.add_argument("--engine", type=int, required=True, help="the process to watch")
    parser.add_argument("--page", type=Path, required=True, help="the memory shared with it")
    options = parser.parse_args()
    page = Page(options.page)
    guardian = Guardian(options.engine, page)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: guardian.give_up())
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        guardian.run()
    except Exception as error:
        page.put_notice(f"{type(error).__name__}: {error}")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
