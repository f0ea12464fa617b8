"""Reasons to wait in the dark: pause, interlock, full disk, guardian; and that the run goes on after them."""

import math

import pytest

from labctl.runs import supervision
from labctl.runs.detector_guard import DetectorGuard
from labctl.runs.interrupts import AFTER_POINT, NOW, Requests
from labctl.runs.remote import Command
from labctl.runs.states import State
from labctl.runs.supervision import CannotDarken, RunStopped
from labctl.runs.watch import Condition, Watch, Watchman
from labctl.store import open_run
from labctl.sweeps import parse_axis
from labctl.timetags import Counts
from tests.runs.stubs import Source, make_run, stub_bench

AXIS = parse_axis("points(1 s, 2 s, 3 s)", "s")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Look at everything every time, and rest no longer than a moment."""
    monkeypatch.setattr(supervision, "CHECK_S", 0.0)
    monkeypatch.setattr(supervision, "REST_S", 0.001)


class Scene:
    """A run with light on a stub bench; `on_rest` is called with the number of the rest in the dark."""

    def __init__(self, tmp_path, monkeypatch, **options):
        self.log = []
        self.bench = stub_bench()
        self.requests = Requests()
        self.source = Source("source", self.log, "open", **options.pop("source", {}))
        self.run, self.writer = make_run(self.bench, tmp_path, requests=self.requests, **options)
        self.supervisor = self.run.supervisor
        self.rests = 0
        self.on_rest = lambda n: None
        rest = self.supervisor._rest

        def counted():
            self.rests += 1
            assert self.rests < 1000, "it waits for ever"
            assert not self.source.on or self.source.on == "kept"
            self.on_rest(self.rests)
            rest()

        monkeypatch.setattr(self.supervisor, "_rest", counted)

    def take(self, dwell_s=0.5):
        """One sweep of three points under light; what each one counted."""
        found = []
        with self.run.emission(self.source):
            for point in self.run.sweep("scan", delay=AXIS):
                counts = Counts([1])
                tags = self.run.acquire(self.bench.tagger, dwell_s, counts, channels=[1])
                assert tags.counts[1] == counts.counts[1]
                found.append(tags.counts[1])
                point.record(counts=tags.counts[1])
        return found

    def states(self):
        data = open_run(self.writer.directory)
        return [e["state"] for e in data.events if e["kind"] == "state"]


@pytest.fixture
def scene(tmp_path, monkeypatch):
    return Scene(tmp_path, monkeypatch)


def command(kind, reason=""):
    return Command(kind, reason)


def test_a_deferred_pause_waits_for_the_end_of_the_point(scene):
    scene.bench.tagger.script[1] = lambda: scene.requests.commands.put(command("pause", "coffee"))
    scene.on_rest = lambda n: scene.requests.commands.put(command("continue")) if n == 3 else None
    assert scene.take() == [5, 5, 5]
    assert scene.bench.tagger.blocks == 15, "nothing was cut"
    assert scene.states() == ["running", "pausing", "paused", "running"]
    assert scene.log == [("source", True), ("source", False), ("source", True), ("source", False)]


def test_a_pause_at_once_drops_the_block_in_hand_and_takes_it_again(scene):
    scene.bench.tagger.script[1] = lambda: scene.requests.commands.put(command("pause_now"))
    scene.on_rest = lambda n: scene.requests.commands.put(command("continue")) if n == 2 else None
    assert scene.take() == [5, 5, 5]
    assert scene.bench.tagger.blocks == 16
    assert scene.states() == ["running", "paused", "running"]
    data = open_run(scene.writer.finish("success"))
    assert [a.live_time_ps for a in data.acquisitions] == [5 * 10**11] * 3


def test_a_pause_may_be_withdrawn_before_it_comes(scene):
    scene.bench.tagger.script = {
        1: lambda: scene.requests.commands.put(command("pause")),
        3: lambda: scene.requests.commands.put(command("continue")),
    }
    assert scene.take() == [5, 5, 5]
    assert scene.rests == 0 and scene.states() == ["running", "pausing", "running"]


@pytest.mark.parametrize("kind", ["stop", "abort"])
def test_a_paused_run_can_be_ended(scene, kind):
    scene.bench.tagger.script[1] = lambda: scene.requests.commands.put(command("pause_now"))
    scene.on_rest = lambda n: scene.requests.commands.put(command(kind, "enough")) if n == 2 else None
    with pytest.raises(RunStopped, match="enough"):
        scene.take()
    assert scene.states()[-1] == "aborting" and not scene.source.on


def test_a_note_is_kept(scene):
    scene.bench.tagger.script[1] = lambda: scene.requests.commands.put(command("note", "door opened"))
    scene.take()
    notes = [e["text"] for e in open_run(scene.writer.directory).events if e["kind"] == "note"]
    assert notes == ["door opened"] and scene.rests == 0


def watched(values, **condition):
    """A watchman that reads the next of `values` at every look (the last one for ever)."""
    values = list(values)
    read = lambda: values.pop(0) if len(values) > 1 else values[0]  # noqa: E731
    return Watchman(
        [Watch("cryostat.temperature", "K", 0.1, read)], [Condition("cryostat.temperature", **condition)]
    )


def test_an_interlock_suspends_until_it_is_released(tmp_path, monkeypatch):
    scene = Scene(tmp_path, monkeypatch, watchman=watched([4, 4, 9, 9, 9, 4], high=5))
    scene.on_rest = lambda n: scene.bench.clock.sleep(0.1)
    assert scene.take() == [5, 5, 5]
    assert scene.states() == ["running", "suspended", "running"] and scene.rests == 3
    data = open_run(scene.writer.finish("success"))
    kinds = [e["kind"] for e in data.events]
    assert kinds.index("interlock_tripped") < kinds.index("interlock_released")
    assert data.monitors["cryostat.temperature"].values[:3].tolist() == [4, 4, 9]


def test_an_interlock_that_is_tripped_already_keeps_the_run_dark(tmp_path, monkeypatch):
    scene = Scene(tmp_path, monkeypatch, watchman=watched([math.nan]))
    scene.on_rest = lambda n: scene.requests.ask_stop(NOW, "no use") if n == 5 else None
    with pytest.raises(RunStopped, match="no use"):
        scene.take()
    assert scene.bench.tagger.blocks == 0


@pytest.mark.parametrize(("action", "made_safe"), [("abort", 0), ("safe", 1)])
def test_an_interlock_may_end_the_run(tmp_path, monkeypatch, action, made_safe):
    scene = Scene(tmp_path, monkeypatch, watchman=watched([4, 9], high=5, action=action))
    with pytest.raises(RunStopped, match="interlock"):
        scene.take()
    assert scene.bench.made_safe == made_safe and not scene.source.on


def test_the_death_of_the_guardian_darkens_until_somebody_continues(scene):
    heart = scene.bench.heart
    scene.bench.tagger.script[1] = lambda: setattr(heart, "alive", False)
    scene.on_rest = lambda n: scene.requests.commands.put(command("continue")) if n == 3 else None
    assert scene.take() == [5, 5, 5]
    assert scene.states() == ["running", "paused", "running"]
    assert heart.alive, "a new one was started before the light came back"


def test_when_the_guardian_has_closed_the_shutters_the_block_is_taken_again(scene):
    scene.bench.tagger.script[1] = lambda: scene.bench.heart.notices.append("a beat was missed")
    assert scene.take() == [5, 5, 5]
    assert scene.bench.tagger.blocks == 16 and scene.states() == ["running", "suspended", "running"]


def test_a_full_disk_suspends_the_run_until_there_is_room(scene, monkeypatch):
    low = [False]
    monkeypatch.setattr(type(scene.writer), "disk_low", property(lambda self: low[0]))
    scene.bench.tagger.script[1] = lambda: low.__setitem__(0, True)
    scene.on_rest = lambda n: low.__setitem__(0, n < 4)
    assert scene.take() == [5, 5, 5]
    assert scene.states() == ["running", "suspended", "running"] and scene.rests == 4


def test_a_source_that_cannot_be_darkened_ends_the_run_with_everything_made_safe(tmp_path, monkeypatch):
    scene = Scene(tmp_path, monkeypatch, source={"refuses": (False,)})
    scene.bench.tagger.script[1] = lambda: scene.requests.commands.put(command("pause_now"))
    with pytest.raises((CannotDarken, RuntimeError)):
        scene.take()
    assert scene.bench.made_safe == 1


def test_stop_after_the_point_while_suspended_ends_at_once(tmp_path, monkeypatch):
    scene = Scene(tmp_path, monkeypatch, watchman=watched([4, 9], high=5))
    scene.on_rest = lambda n: scene.requests.ask_stop(AFTER_POINT, "Ctrl-C")
    with pytest.raises(RunStopped, match="Ctrl-C"):
        scene.take()
    assert scene.supervisor.machine.state is State.ABORTING


def test_a_hold_within_the_pause_of_the_detector_guard_may_end_in_a_stop(tmp_path, monkeypatch):
    scene = Scene(tmp_path, monkeypatch, guard=DetectorGuard([1], 1e3, 1e2))
    tagger, heart = scene.bench.tagger, scene.bench.heart
    tagger.script = {
        1: lambda: setattr(tagger, "tags_per_block", 1000),
        2: lambda: setattr(tagger, "tags_per_block", 1),
    }
    settle = scene.supervisor._settle

    def settle_and_be_stopped():
        scene.requests.ask_stop(AFTER_POINT, "Ctrl-C")
        return settle()

    def told(event, reason):
        heart.notices.append("a beat was missed")

    monkeypatch.setattr(scene.supervisor, "_tell", told)  # as soon as the guard has tripped
    monkeypatch.setattr(scene.supervisor, "_settle", settle_and_be_stopped)
    with pytest.raises(RunStopped, match="Ctrl-C"):
        scene.take()
    assert not scene.source.on
