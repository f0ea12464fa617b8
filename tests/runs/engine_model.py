"""A model of the engine: whatever happens to a run, in whatever order, these rules hold.

Light is at the sample only in states that allow it; what was switched on is switched off in reverse order;
time never passes without a beat; a point is committed exactly once and with the tags of one attempt, all
taken in the right light; live times are what was asked for; every acquisition is ended or discarded; the
states follow their table; and a run that ended in any way, the death of its process included, can be resumed
until all its points are there.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from labctl.instruments.errors import InstrumentError
from labctl.runs.detector_guard import DetectorGuard
from labctl.runs.interrupts import NOW, Requests
from labctl.runs.past import Past
from labctl.runs.run import Point, PointSpoilt, Run
from labctl.runs.states import LIT as LIT_STATES
from labctl.runs.states import TRANSITIONS, State
from labctl.runs.supervision import CannotDarken, RunStopped, Supervisor
from labctl.runs.watch import Condition, Watch, Watchman
from labctl.store import RunData, RunWriter, open_run
from labctl.store.provenance import machine_header
from labctl.store.records import read_journal
from labctl.sweeps import Axis, Points
from labctl.timetags import TagBlock
from labctl.timetags.stream import Watermark
from tests.runs.stub_bench import INCIDENTS, LIT, PS, SLICE_S, Death, Store, World, stub_bench

AXIS = Axis((Points((1.0, 2.0, 3.0)),))
REFERENCE_EVERY, REFERENCE = 2, 9.0
INDICES = {0, 1, 2, 3, 4, 5}
"""Three points and three references."""
FIRST, SECOND, BACKGROUND = 6, 2, 2
"""Slices of the two acquisitions of a point, and of the one before the sweep."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where runs are kept: a disk that is waited for makes a sequence ten times as long."""
STORE = {"reserve_bytes": 4096, "low_bytes": 0}
RECORDS = {"first": "", "second": "", "zero": ""}
SETTLE_S = 20.0
"""Longer than a beat may be late."""
GUARD_HZ = (400 / SLICE_S, 200 / SLICE_S)
"""The detector guard trips above the first rate and is released below the second."""
ALLOWED = (InstrumentError, CannotDarken, PointSpoilt)
"""What may end a run: faults that were planned."""


class LiveTime:
    """An accumulator: how long it saw, and how many tags; refuses what is not in time order."""

    def __init__(self) -> None:
        self._mark = Watermark()
        self.counts = 0

    @property
    def live_time_ps(self) -> int:
        return self._mark.live_time_ps

    def update(self, block: TagBlock) -> None:
        self._mark.accept(block)
        self.counts += len(block)


class Session:
    """One process that takes a run, or goes on with one, until it ends, is stopped, or dies."""

    def __init__(self, world: World, folder: Path | None, root: Path) -> None:
        past = Past.of(open_run(folder)) if folder else Past()
        self.writer = (
            RunWriter.resume(folder, **STORE) if folder else RunWriter.create(root, "model", {}, **STORE)
        )
        self.acknowledged: list[tuple[int, int]] = []
        self.survived = 0
        self._world = world
        self._bench = stub_bench(world)
        requests = Requests()
        self._store = Store(world, self.writer)
        self._supervisor = Supervisor(
            self._bench, self._store,
            requests=requests, watchman=_watchman(world), guard=DetectorGuard([1], *GUARD_HZ),
            settle_s=SETTLE_S,
        )  # fmt: skip
        self._run = Run(
            self._bench, self._store, RECORDS, self._supervisor, seed=3, slice_s=SLICE_S, past=past
        )  # fmt: skip
        world.may_be_lit = self._may_be_lit
        world.put = requests.commands.put
        world.press_ctrl_c = lambda: requests.ask_stop(min(requests.stop_level + 1, NOW), "Ctrl-C")

    def _may_be_lit(self) -> bool:
        state = self._supervisor.machine.state
        return state in LIT_STATES or (state is State.PAUSED and self._world.keeps_light)

    def take(self) -> str:
        """Take data; how it ended: "success", "abort", "fail" or "death"."""
        machine = self._supervisor.machine
        try:
            status = self._carry_out()
            machine.to(State.FINISHING)
            self._bench.safe()
            machine.to({"success": State.DONE, "abort": State.ABORTED}.get(status, State.FAILED))
        except Death:
            self.survived = self.writer.acknowledged
            self._world.guardian_acts()
            return "death"
        return status

    def _carry_out(self) -> str:
        try:
            self._supervisor.machine.to(State.RUNNING)
            self._measure()
        except RunStopped:
            return "abort"
        except ALLOWED:
            return "fail"
        return "success"

    def _measure(self) -> None:
        """The experiment: a number taken once, a background, and a sweep of points with two acquisitions."""
        run, bench = self._run, self._bench
        zero = run.once("zero", lambda: self._world.now_s)
        lights = bench.laser, bench.shutter, bench.diode
        with run.emission(bench.lamp, keep_light_on_pause=True), self._light(*lights):
            self._acquire(BACKGROUND, label="background")
            points = run.sweep(
                "scan", x=AXIS, shuffle=True, reference_every=REFERENCE_EVERY, reference=REFERENCE
            )
            for point in self._noting_commits(points):
                bench.knob.position(point.x)
                run.wait(0.15)
                first, second = self._acquire(FIRST, point), self._acquire(SECOND, point)
                point.record(first=first, second=second, zero=zero)

    def _acquire(self, slices: int, point: Point | None = None, label: str = "") -> int:
        seen = LiveTime()
        taken = self._run.acquire(self._bench.tagger, slices * SLICE_S, seen, channels=[1], label=label)
        if point is None or not point.spoilt:
            asked_ps = round(slices * SLICE_S * PS)
            assert seen.live_time_ps == round(taken.live_time_s * PS) == asked_ps
            assert seen.counts == taken.counts[1] == slices * LIT
        return taken.counts[1]

    def _noting_commits(self, points: Iterator[Point]) -> Iterator[Point]:
        """The points; one is acknowledged when the sweep goes on to the next without having spoilt it."""
        before: Point | None = None
        for point in points:
            self._acknowledge(before)
            before = point
            yield point
        self._acknowledge(before)

    def _acknowledge(self, point: Point | None) -> None:
        if point is not None and not point.spoilt:
            assert self.writer.acknowledged > self._store.last_row, "the next point began too early"
            self.acknowledged.append((point.index, point.attempt))

    @contextmanager
    def _light(self, *sources: Any) -> Iterator[None]:
        """Emission whose end is checked: every source is switched off, the last one first."""
        try:
            with self._run.emission(*sources):
                yield
        finally:
            if not self._world.dead:
                names = [source.name for source in sources]
                off = [name for name, on in self._world.switched if not on and name in names]
                assert off[-len(names) :] == names[::-1]


def _watchman(world: World) -> Watchman:
    sensors = {"temperature": "suspend", "pressure": "abort", "field_t": "safe"}
    return Watchman(
        [Watch(name, "", 0.2, lambda name=name: getattr(world, name)) for name in sensors],
        [Condition(name, high=5.0, action=action) for name, action in sensors.items()],
        wall=lambda: world.now_s,
    )


SELDOM = st.integers(0, 7).map(lambda n: n == 7)
"""Completing the file costs more than all the rest."""
INCIDENT = st.tuples(st.integers(0, 60), st.sampled_from(INCIDENTS))
"""So many ticks after the last one, this."""


class EngineModel(RuleBasedStateMachine):
    """Take a run through plans of incidents, and go on with it; in the end it must be complete."""

    sequences = 0
    """Plans taken so far, by all models."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(prefix="engine-model-", dir=MEMORY)
        self._world = World()
        self._folder: Path | None = None
        self._acknowledged: set[tuple[int, int]] = set()
        self._sound = True
        self._patches = [
            mock.patch("labctl.store.writer.machine_header", _header_once),
            mock.patch("labctl.runs.supervision.time", _virtual(self._world)),
            mock.patch("labctl.runs.light.within", lambda limit_s, step, what: step()),
        ]
        for patch in self._patches:
            patch.start()

    @rule(plan=st.lists(INCIDENT, min_size=1, max_size=12), finish=SELDOM)
    def take(self, plan: list[tuple[int, str]], finish: bool) -> None:
        """Take the run, or go on with it, through a plan; a complete one is followed by a new one."""
        EngineModel.sequences += bool(plan)
        self._sound = False
        self._world.plan.extend(plan)
        session = Session(self._world, self._folder, Path(self._temporary.name))
        self._folder = session.writer.directory
        try:
            status = session.take()
            self._leave(session, status, finish)
        finally:
            session.writer.close()
        assert not self._world.on and not self._world.broken, self._world.broken
        self._acknowledged |= set(session.acknowledged)
        data = open_run(self._folder)
        self._check(data, complete=status == "success")
        if status == "success" and finish:
            _check_tags(data)
        if status == "success":
            self._folder, self._acknowledged = None, set()
        self._next_day()
        self._sound = True

    def teardown(self) -> None:
        try:
            for _ in range(3):
                if self._sound and self._folder is not None:
                    self.take(plan=[], finish=False)
            assert not self._sound or self._folder is None, "a run without incidents does not end"
        finally:
            for patch in self._patches:
                patch.stop()
            self._temporary.cleanup()

    def _leave(self, session: Session, status: str, finish: bool) -> None:
        if status == "death":
            session.writer.close()
            _cut(session.writer.directory / "run.journal", session.survived)
        elif finish:
            session.writer.finish(status)

    def _next_day(self) -> None:
        """Everything is repaired; the next process finds a bench in order."""
        self._world.calm()
        self._world.plan.clear()
        self._world.dead = False
        self._world.guardian = True
        self._world.keeps_light = False
        self._world.urgent_s = math.inf
        self._world.rests = 0
        self._world.now_ps += 100 * PS
        self._world.due_s = math.inf

    def _check(self, data: RunData, *, complete: bool) -> None:
        _check_states(data)
        rows = data.rows("scan") if "scan" in data.sweeps else {"index": [], "attempt": []}
        committed = list(zip(map(int, rows["index"]), map(int, rows["attempt"]), strict=True))
        assert len({index for index, _ in committed}) == len(committed), "a point was committed twice"
        assert self._acknowledged <= set(committed), "an acknowledged row is lost"
        if committed:
            assert set(rows["first"].tolist()) == {FIRST * LIT}
            assert set(rows["second"].tolist()) == {SECOND * LIT}
            assert len(set(rows["zero"].tolist())) == 1, "what is done once was done again"
        _check_acquisitions(data, committed, complete=complete)
        if complete:
            assert {index for index, _ in committed} == INDICES


def _check_acquisitions(data: RunData, committed: list[tuple[int, int]], *, complete: bool) -> None:
    wanted_ps = [round(n * SLICE_S * PS) for n in (FIRST, SECOND)]
    for index, attempt in committed:
        kept = [a for a in data.acquisitions if (a.sweep, a.index) == ("scan", index)]
        assert [(a.attempt, a.part, a.live_time_ps) for a in kept] == [
            (attempt, part, live_ps) for part, live_ps in enumerate(wanted_ps)
        ], "a committed point has the two acquisitions of its attempt, whole"
    unfinished = [a for a in data.all_acquisitions if not a.ended and not a.discarded]
    assert len(unfinished) <= (0 if complete else 1), "an acquisition has neither end nor discard"


def _check_tags(data: RunData) -> None:
    for acquisition in data.acquisitions:
        blocks = list(data.tag_blocks(acquisition))
        assert sum(block.live_time_ps for block in blocks) == acquisition.live_time_ps
        slices = round(acquisition.live_time_ps / PS / SLICE_S)
        assert sum(len(block) for block in blocks) == slices * LIT, "tags of a wrong light were kept"


def _check_states(data: RunData) -> None:
    """The recorded states follow the table; with every process that goes on they begin anew."""
    state = State.IDLE
    for event in data.events:
        if event["kind"] != "state":
            continue
        following = State(event["state"])
        if following is State.RUNNING and state is not State.IDLE and following not in TRANSITIONS[state]:
            state = State.IDLE
        assert following in TRANSITIONS[state], f"{state} was followed by {following}"
        state = following


def _cut(journal: Path, records: int) -> None:
    """Keep the first `records` records, which is all that a death is sure to leave."""
    kept = deque(islice(read_journal(journal), records), maxlen=1)
    os.truncate(journal, kept[0].data_offset + len(kept[0].data))


@cache
def _asked_once() -> dict[str, Any]:
    return machine_header("model", datetime.now(UTC))


def _header_once(experiment: str, now: datetime) -> dict[str, Any]:
    """What the machine knows, without asking git for every run."""
    return _asked_once()


def _virtual(world: World) -> SimpleNamespace:
    return SimpleNamespace(sleep=world.rest, monotonic=lambda: world.now_s)
