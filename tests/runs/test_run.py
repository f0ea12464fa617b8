"""The engine: points are committed or not, stops are obeyed at borders, spoilt points are taken again."""

import numpy as np
import pytest

from labctl.runs.detector_guard import DetectorGuard
from labctl.runs.interrupts import AFTER_POINT, NOW, Requests
from labctl.runs.run import MAX_ATTEMPTS, PointSpoilt
from labctl.runs.supervision import RunStopped
from labctl.store import open_run
from labctl.sweeps import axis, parse_axis
from labctl.timetags import Counts
from tests.runs.stubs import Source, make_run, stub_bench

AXIS = parse_axis("points(1 s, 2 s, 3 s)", "s")


@pytest.fixture
def bench():
    return stub_bench()


def test_points_are_committed_with_their_axis_and_units(bench, tmp_path):
    run, writer = make_run(bench, tmp_path)
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


def test_a_scan_of_two_axes(bench, tmp_path):
    run, writer = make_run(bench, tmp_path)
    scan = axis("x", AXIS) * ~axis("y", parse_axis("points(0 V, 1 V)", "V"))
    seen = [(p.x, p.y) for p in run.sweep("map", scan)]
    assert seen == [(1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (3, 1)]
    data = open_run(writer.finish("success"))
    assert data.rows("map")["y"].tolist() == [0, 1, 1, 0, 0, 1]
    assert data.units("map") | {"x": "s", "y": "V"} == data.units("map")


def test_a_sweep_by_feedback_follows_its_proposals(bench, tmp_path):
    run, writer = make_run(bench, tmp_path)

    def bisect(rows):
        if len(rows) == 4:
            return None
        low = max((r["x"] for r in rows if r["counts"] < 5), default=0.0)
        high = min((r["x"] for r in rows if r["counts"] >= 5), default=8.0)
        return {"x": (low + high) / 2}

    for point in run.adaptive("search", bisect, x="m"):
        point.record(counts=10 if point.x > 5.2 else 0)
    data = open_run(writer.finish("success"))
    assert data.rows("search")["x"].tolist() == [4.0, 6.0, 5.0, 5.5]
    assert data.memos["search/3"] == {"x": 5.5} and data.memos["search/4"] is None


def test_a_point_with_an_exception_is_not_committed(bench, tmp_path):
    run, writer = make_run(bench, tmp_path)
    with pytest.raises(ZeroDivisionError):
        for point in run.sweep("scan", delay=AXIS):
            point.record(counts=1 // (2 - point.index - 1))
    assert open_run(writer.finish("fail")).rows("scan")["index"].tolist() == [0]


def test_a_value_that_is_not_declared_is_refused(bench, tmp_path):
    run, _ = make_run(bench, tmp_path)
    with pytest.raises(KeyError, match="not declared"):
        for point in run.sweep("scan", delay=AXIS):
            point.record(rate=1.0)


def test_stop_after_the_point_keeps_the_point(bench, tmp_path):
    requests = Requests()
    run, writer = make_run(bench, tmp_path, requests=requests)
    with pytest.raises(RunStopped, match="enough"):
        for point in run.sweep("scan", delay=AXIS):
            requests.ask_stop(AFTER_POINT, "enough")
            point.record(counts=run.acquire(bench.tagger, 0.3, channels=[1]).counts[1])
    assert open_run(writer.finish("abort")).rows("scan")["counts"].tolist() == [3]


def test_stop_now_ends_an_acquisition_between_two_slices(bench, tmp_path):
    requests = Requests()
    run, writer = make_run(bench, tmp_path, requests=requests)
    bench.tagger.script[1] = lambda: requests.ask_stop(NOW, "now")
    with pytest.raises(RunStopped):
        for _ in run.sweep("scan", delay=AXIS):
            run.acquire(bench.tagger, 5.0, channels=[1])
    data = open_run(writer.finish("abort"))
    assert data.sweeps == []
    assert bench.clock.now() == pytest.approx(0.2)
    assert sum(len(b) for b in data.tag_blocks(data.acquisitions[0])) == 1


def test_stop_requests_only_become_more_urgent():
    requests = Requests()
    requests.ask_stop(NOW, "first")
    requests.ask_stop(AFTER_POINT, "second")
    assert (requests.stop_level, requests.stop_reason) == (NOW, "first")


def test_the_order_of_points_follows_from_the_seed(bench, tmp_path):
    def order(seed):
        run, _ = make_run(bench, tmp_path, seed=seed)
        return [
            p.index for p in run.sweep("scan", delay=parse_axis("linear(0 s, 1 s, 20)", "s"), shuffle=True)
        ]

    assert order(1) == order(1) != order(2)


def test_waiting_is_interrupted_by_a_stop(bench, tmp_path):
    requests = Requests()
    run, _ = make_run(bench, tmp_path, requests=requests)
    run.wait(0.75)
    assert bench.clock.now() == pytest.approx(0.75)
    requests.ask_stop(NOW, "enough")
    with pytest.raises(RunStopped):
        run.wait(100.0)
    assert bench.clock.now() < 1.0


def test_a_ramp_goes_in_steps_and_ends_at_the_target(bench, tmp_path):
    run, _ = make_run(bench, tmp_path)
    values = [1.0]

    def field(value=None):
        if value is None:
            return values[-1]
        values.append(value)
        return None

    run.ramp(field, 2.0, rate=2.0, period_s=0.1)
    assert values[-1] == 2.0 and np.allclose(np.diff(values), 0.2)
    assert bench.clock.now() == pytest.approx(0.4)


def test_once_is_once(bench, tmp_path):
    run, writer = make_run(bench, tmp_path)
    assert [run.once("zero", lambda: 1.5), run.once("zero", lambda: 2.5)] == [1.5, 1.5]
    assert open_run(writer.finish("success")).memos == {"zero": 1.5}


def test_too_bright_a_light_closes_the_shutter_and_spoils_the_point(bench, tmp_path):
    log = []
    shutter = Source("shutter", log, "open")
    run, writer = make_run(bench, tmp_path, guard=DetectorGuard([1], 1e3, 1e2))
    tagger = bench.tagger
    tagger.script = {
        1: lambda: setattr(tagger, "tags_per_block", 1000),
        2: lambda: setattr(tagger, "tags_per_block", 1),
    }
    seen = []
    with run.emission(shutter):
        for point in run.sweep("scan", delay=parse_axis("points(1 s)", "s")):
            log.clear()
            tags = run.acquire(tagger, 0.3, channels=[1])
            seen.append((point.attempt, tags.counts[1], list(log)))
            point.record(counts=tags.counts[1])
    assert seen == [(0, 2, [("shutter", False), ("shutter", True)]), (1, 3, [])]
    data = open_run(writer.finish("success"))
    assert data.rows("scan")["attempt"].tolist() == [1]
    assert [(a.attempt, a.discarded != "") for a in data.all_acquisitions] == [(0, True), (1, False)]
    assert [a.attempt for a in data.acquisitions] == [1]
    (event,) = [e for e in data.events if e["kind"] == "detector_guard"]
    assert event["end_ps"] - event["begin_ps"] == 10**11 and "above the limit" in event["reason"]


def test_a_point_that_is_always_too_bright_ends_the_run(bench, tmp_path):
    run, _ = make_run(bench, tmp_path, guard=DetectorGuard([1], 1e3, 1e2))
    bench.tagger.tags_per_block = 1000
    with pytest.raises(PointSpoilt, match=f"spoilt {MAX_ATTEMPTS} times"):
        for _ in run.sweep("scan", delay=AXIS):
            run.acquire(bench.tagger, 0.3, channels=[1])


def test_accumulators_see_exactly_what_is_recorded(bench, tmp_path):
    run, writer = make_run(bench, tmp_path)
    counts = Counts([1])
    tags = run.acquire(bench.tagger, 0.5, counts, channels=[1], label="darks")
    data = open_run(writer.finish("success"))
    (taken,) = data.acquisitions
    assert (taken.sweep, taken.live_time_ps) == ("darks", 5 * 10**11)
    assert counts.counts[1] == tags.counts[1] == sum(len(b) for b in data.tag_blocks(taken)) == 5
