"""The engine: points are committed or not, emission ends on every way out, stops are obeyed at borders."""

from types import SimpleNamespace

import numpy as np
import pytest

from labctl.runs.interrupts import AFTER_POINT, NOW, StopRequest
from labctl.runs.run import Run, RunStopped
from labctl.store import RunWriter, open_run
from labctl.sweeps import parse_axis
from labctl.timetags import TagBlock


class Clock:
    def __init__(self):
        self.t = 0.0

    def now(self):
        return self.t

    def sleep(self, seconds):
        self.t += seconds


class Source:
    """Something with an emission switch that may refuse."""

    def __init__(self, name, log, refuses=()):
        self.name = name
        self._log = log
        self._refuses = refuses

    def enabled(self, on):
        self._log.append((self.name, on))
        if on in self._refuses:
            raise RuntimeError(f"{self.name} refuses")


class Tagger:
    """Gives one tag per slice on channel 1."""

    def __init__(self, clock):
        self._clock = clock

    def stream(self, channels, duration_s, slice_s):
        for _ in range(round(duration_s / slice_s)):
            begin = round(self._clock.now() * 1e12)
            self._clock.sleep(slice_s)
            end = round(self._clock.now() * 1e12)
            yield TagBlock(np.array([begin]), np.array([channels[0]]), begin, end)


@pytest.fixture
def bench():
    clock = Clock()
    return SimpleNamespace(clock=clock, twin=None, tagger=Tagger(clock))


@pytest.fixture
def make_run(bench, tmp_path):
    def make(**options):
        writer = RunWriter.create(tmp_path, "test", {"default_plot": None})
        return Run(bench, writer, {"counts": ""}, slice_s=0.1, **options), writer

    return make


AXIS = parse_axis("points(1 s, 2 s, 3 s)", "s")


def test_points_are_committed_with_their_axis_and_units(make_run, bench):
    run, writer = make_run()
    for point in run.sweep("scan", delay=AXIS, reference_every=2, reference=9.0):
        tags = run.acquire(bench.tagger, 0.3, channels=[1])
        point.record(counts=tags.counts[1])
    data = open_run(writer.finish("success"))
    rows = data.rows("scan")
    assert rows["delay"].tolist() == [9.0, 1.0, 2.0, 9.0, 3.0, 9.0]
    assert rows["index"].tolist() == [3, 0, 1, 4, 2, 5]
    assert rows["reference"].tolist() == [True, False, False, True, False, True]
    assert rows["counts"].tolist() == [3] * 6
    assert data.units("scan")["delay"] == "s"
    assert [a.index for a in data.acquisitions] == rows["index"].tolist()


def test_a_point_with_an_exception_is_not_committed(make_run):
    run, writer = make_run()
    with pytest.raises(ZeroDivisionError):
        for point in run.sweep("scan", delay=AXIS):
            point.record(counts=1 // (2 - point.index - 1))
    assert open_run(writer.finish("fail")).rows("scan")["index"].tolist() == [0]


def test_a_value_that_is_not_declared_is_refused(make_run):
    run, _ = make_run()
    with pytest.raises(KeyError, match="not declared"):
        for point in run.sweep("scan", delay=AXIS):
            point.record(rate=1.0)


def test_emission_ends_in_reverse_order_whatever_happens(make_run):
    run, _ = make_run()
    log = []
    with pytest.raises(KeyboardInterrupt), run.emission(Source("a", log), Source("b", log)):
        raise KeyboardInterrupt
    assert log == [("a", True), ("b", True), ("b", False), ("a", False)]


def test_a_source_that_refuses_does_not_keep_the_others_on(make_run):
    run, writer = make_run()
    log = []
    with (
        pytest.raises(RuntimeError, match="b refuses"),
        run.emission(Source("a", log), Source("b", log, [False])),
    ):
        pass
    assert log[-2:] == [("b", False), ("a", False)]
    assert "switch_off_failed" in [e["kind"] for e in open_run(writer.finish("fail")).events]


def test_a_source_that_fails_to_start_is_switched_off_too(make_run):
    run, _ = make_run()
    log = []
    with pytest.raises(RuntimeError), run.emission(Source("a", log, [True])):
        pass
    assert log == [("a", True), ("a", False)]


def test_stop_after_the_point_keeps_the_point(make_run, bench):
    stop = StopRequest()
    run, writer = make_run(stop=stop)
    with pytest.raises(RunStopped):
        for point in run.sweep("scan", delay=AXIS):
            stop.ask(AFTER_POINT, "enough")
            point.record(counts=run.acquire(bench.tagger, 0.3, channels=[1]).counts[1])
    assert open_run(writer.finish("abort")).rows("scan")["counts"].tolist() == [3]


def test_stop_now_ends_an_acquisition_between_two_slices(make_run, bench):
    stop = StopRequest()
    run, writer = make_run(stop=stop)
    with pytest.raises(RunStopped):
        for _ in run.sweep("scan", delay=AXIS):
            stop.ask(NOW, "now")
            run.acquire(bench.tagger, 5.0, channels=[1])
    data = open_run(writer.finish("abort"))
    assert data.sweeps == []
    assert bench.clock.now() == pytest.approx(0.1)
    assert sum(len(b) for b in data.tag_blocks(data.acquisitions[0])) == 1


def test_a_stop_request_only_becomes_more_urgent():
    stop = StopRequest()
    stop.ask(NOW, "first")
    stop.ask(AFTER_POINT, "second")
    assert (stop.level, stop.reason) == (NOW, "first")


def test_the_order_of_points_follows_from_the_seed(make_run):
    def order(seed):
        run, _ = make_run(seed=seed)
        return [
            p.index for p in run.sweep("scan", delay=parse_axis("linear(0 s, 1 s, 20)", "s"), shuffle=True)
        ]

    assert order(1) == order(1) != order(2)
