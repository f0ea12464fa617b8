"""Light: off in reverse order on every way out, every step attempted, read back, taken away while waiting."""

import threading

import pytest

from labctl.instruments.errors import CommandRejected
from labctl.runs import light as light_module
from labctl.runs.light import Light
from tests.runs.stubs import Source


class Recorder(list):
    def __call__(self, kind, **fields):
        self.append((kind, fields))


@pytest.fixture
def log():
    return []


@pytest.fixture
def light():
    return Light(Recorder())


def test_emission_ends_in_reverse_order_whatever_happens(light, log):
    with pytest.raises(KeyboardInterrupt), light.scope(Source("a", log), Source("b", log)):
        raise KeyboardInterrupt
    assert log == [("a", True), ("b", True), ("b", False), ("a", False)]


def test_a_source_that_refuses_does_not_keep_the_others_on(light, log):
    a, b = Source("a", log), Source("b", log, refuses=(False,))
    with pytest.raises(RuntimeError, match="b refuses"), light.scope(a, b):
        pass
    assert log[-2:] == [("b", False), ("a", False)]
    assert "switch_off_failed" in [kind for kind, _ in light._record]


def test_a_source_that_fails_to_start_is_switched_off_too(light, log):
    with pytest.raises(RuntimeError), light.scope(Source("a", log, refuses=(True,))):
        pass
    assert log == [("a", True), ("a", False)]


def test_a_source_that_hangs_does_not_keep_the_others_on(light, log, monkeypatch):
    monkeypatch.setattr(light_module, "SWITCH_LIMIT_S", 0.2)
    hang = threading.Event()
    a, b = Source("a", log), Source("b", log)
    with pytest.raises(Exception, match="switching b"), light.scope(a, b):
        b.enabled = lambda *on: hang.wait()
    hang.set()
    assert log[-1] == ("a", False) and not a.on


def test_a_source_that_reads_back_wrong_is_an_error(light, log):
    with pytest.raises(CommandRejected, match="switched on, but reads back as off"):
        with light.scope(Source("a", log, stuck=False)):
            pass
    assert log[-1] == ("a", False)


def test_what_was_switched_is_recorded_with_its_read_back(light, log):
    with light.scope(Source("a", log)):
        pass
    assert light._record == [
        ("switch", {"instrument": "a", "on": True, "read_back": True}),
        ("switch", {"instrument": "a", "on": False, "read_back": False}),
    ]


def test_waiting_takes_the_light_away_and_gives_it_back_in_order(light, log):
    a, b, c = (Source(n, log) for n in "abc")
    with light.scope(a, b, c):
        light.switch(b, False)
        log.clear()
        assert light.darken() == []
        assert log == [("c", False), ("a", False)] and light.dark
        light.restore()
        assert log[2:] == [("a", True), ("c", True)] and not light.dark
    assert not (a.on or b.on or c.on)


def test_light_that_is_kept_on_purpose_stays_on_and_is_recorded(light, log):
    a, b = Source("a", log), Source("b", log)
    with light.scope(a, keep_light_on_pause=True), light.scope(b):
        light.darken()
        assert a.on and not b.on
        light.restore()
        assert ("keep_light_on_pause", {"instrument": "a"}) in light._record
        light.darken(everything=True)
        assert not a.on


def test_a_laser_behind_a_shutter_stays_warm(log):
    light = Light(Recorder(), {"laser": "shutter"})
    laser, shutter = Source("laser", log, "emission"), Source("shutter", log, "open")
    with light.scope(laser, shutter):
        light.darken()
        assert laser.on and not shutter.on
    with light.scope(laser):  # nothing blocks it now
        light.darken()
        assert not laser.on


def test_only_what_is_in_a_scope_is_switched(light, log):
    with pytest.raises(ValueError, match="a is not in emission"):
        light.switch(Source("a", log), True)


def test_a_record_that_fails_does_not_keep_anything_on(log):
    def full(kind, **fields):
        raise OSError("the disk is full")

    light = Light(full)
    with light.scope(Source("a", log), Source("b", log)):
        assert light.darken() == []
        light.restore()
    assert log[-2:] == [("b", False), ("a", False)]
