"""The time that a run still takes, learnt from made-up histories of runs whose end is known."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.runs.progress import Estimator, Silent, Tracker, time_text


class Wall:
    def __init__(self):
        self.t = 1000.0

    def __call__(self):
        return self.t


class History:
    """A run whose every step costs known wall time; notes each estimate and the moment it was made."""

    def __init__(self, total_s):
        self.wall = Wall()
        self.estimator = Estimator(total_s, self.wall)
        self.estimates = []

    def acquire(self, dwell_s, pace=1.0, blocks=5):
        for _ in range(blocks):
            self.wall.t += dwell_s / blocks * pace
            self.estimator.advance(dwell_s / blocks)
            self.look()

    def overhead(self, seconds):
        self.wall.t += seconds
        self.look()

    def sweep(self, n, dwell_s, overhead_s, pace=1.0, blocks=5):
        self.estimator.points(0, n)
        for done in range(1, n + 1):
            self.overhead(overhead_s() if callable(overhead_s) else overhead_s)
            self.acquire(dwell_s, pace, blocks)
            self.estimator.points(done, n)
            self.look()

    def look(self):
        self.estimates.append((self.wall.t, self.estimator.eta_s()))

    def worst_error(self, after=1 / 3, until=0.95):
        """Largest relative error of the estimates between these shares of the run."""
        begin, end = self.estimates[0][0], self.wall.t
        span = end - begin
        judged = [(t, eta) for t, eta in self.estimates if after * span <= t - begin <= until * span]
        assert len(judged) > 10
        return max(abs(eta - (end - t)) / (end - t) for t, eta in judged)


def test_overhead_three_times_the_dwell_is_learnt_within_a_third():
    history = History(100.0)
    history.sweep(100, dwell_s=1.0, overhead_s=3.0)
    assert history.worst_error() < 0.1


def test_random_overheads():
    rng = random.Random(1)
    history = History(300.0)
    history.sweep(300, dwell_s=1.0, overhead_s=lambda: rng.uniform(1.0, 5.0))
    assert history.worst_error(until=0.75) < 0.1


@pytest.mark.parametrize("pace", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("blocks", [1, 10])
def test_acquisition_is_quicker_or_slower_than_it_says(pace, blocks):
    history = History(200.0)
    history.sweep(50, dwell_s=4.0, overhead_s=0.1, pace=pace, blocks=blocks)
    assert history.worst_error(after=0.1) < 0.1


def test_one_long_acquisition_without_points():
    history = History(600.0)
    history.overhead(5.0)
    history.acquire(600.0, pace=0.02, blocks=600)
    assert history.worst_error(after=0.35) < 0.01


def test_a_long_acquisition_before_a_sweep_and_one_after_it():
    history = History(300.0)
    history.acquire(100.0, blocks=100)
    history.sweep(100, dwell_s=1.0, overhead_s=0.5)
    history.acquire(100.0, blocks=100)
    assert history.worst_error() < 0.1


def test_a_change_of_habit_is_followed():
    history = History(400.0)
    history.sweep(400, dwell_s=1.0, overhead_s=iter([0.5] * 100 + [8.0] * 300).__next__)
    assert history.worst_error(after=0.4) < 0.1


def test_one_point_that_took_long_does_not_mislead():
    history = History(200.0)
    history.sweep(200, dwell_s=1.0, overhead_s=iter([1.0] * 20 + [500.0] + [1.0] * 179).__next__)
    begin = history.estimates[0][0] + 600
    first_after = next((t, eta) for t, eta in history.estimates if t > begin)
    assert first_after[1] == pytest.approx(history.wall.t - first_after[0], rel=0.2)


def test_a_pause_teaches_nothing():
    def estimates(pause_s):
        history = History(20.0)
        history.estimator.points(0, 20)
        for done in range(1, 11):
            history.acquire(1.0)
            if done == 5:
                history.estimator.wait()
                history.wall.t += pause_s / 2
                history.look()
                history.estimator.wait()
                history.wall.t += pause_s / 2
                history.estimator.go_on()
                history.estimator.go_on()
            history.estimator.points(done, 20)
        return [eta for _, eta in history.estimates]

    assert estimates(3600.0) == pytest.approx(estimates(0.0), abs=1e-6)
    assert estimates(0.0)[-1] == pytest.approx(10.0, rel=0.15)


def test_points_that_a_resumed_run_passes_over_teach_nothing():
    history = History(100.0)
    for done in range(101):
        history.estimator.points(done, 200)
    for done in range(101, 201):
        history.overhead(3.0)
        history.acquire(1.0)
        history.estimator.points(done, 200)
    assert history.worst_error() < 0.1


def test_reference_points_between_are_part_of_what_a_point_costs():
    history = History(110.0)
    history.estimator.points(0, 100)
    for done in range(1, 101):
        history.acquire(1.0)
        history.estimator.points(done, 100)
        if done % 10 == 0:
            history.acquire(1.0)
            history.estimator.points(done, 100)
    assert history.worst_error() < 0.1


def test_each_sweep_is_learnt_anew():
    history = History(110.0)
    history.sweep(10, dwell_s=1.0, overhead_s=60.0)
    began = len(history.estimates)
    history.sweep(100, dwell_s=1.0, overhead_s=0.0)
    later = [(t, eta) for t, eta in history.estimates[began + 20 : -60]]
    assert all(eta == pytest.approx(history.wall.t - t, rel=0.1) for t, eta in later)


def test_before_anything_is_known_acquisition_costs_its_own_time():
    assert Estimator(90.0, Wall()).eta_s() == 90.0


def test_at_the_end_nothing_is_left():
    history = History(10.0)
    history.sweep(10, dwell_s=1.0, overhead_s=2.0)
    assert history.estimator.eta_s() == pytest.approx(0.0, abs=1e-9)


steps = st.one_of(
    st.tuples(st.just("advance"), st.floats(1e-6, 100)),
    st.tuples(st.just("points"), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("wait")),
    st.tuples(st.just("go_on")),
    st.tuples(st.just("time"), st.floats(0, 100)),
)


@given(st.lists(steps, max_size=30))
def test_whatever_happens_the_estimate_is_a_time(history):
    wall = Wall()
    estimator = Estimator(50.0, wall)
    for name, *arguments in history:
        if name == "time":
            wall.t += arguments[0]
        else:
            getattr(estimator, name)(*arguments)
        assert 0.0 <= estimator.eta_s() < float("inf")


class Viewer(Silent):
    def __init__(self):
        self.told = []

    def __getattribute__(self, name):
        if name in ("start", "advance", "points", "state", "say", "finish"):
            return lambda *arguments: self.told.append((name, *arguments))
        return object.__getattribute__(self, name)


def test_a_tracker_keeps_all_and_tells_the_viewer():
    viewer, wall = Viewer(), Wall()
    tracker = Tracker(viewer, wall)
    tracker.start("scan", 20.0)
    tracker.state("running")
    tracker.points(0, 4)
    wall.t += 5.0
    tracker.advance(5.0, {"1": 1000.0})
    tracker.points(1, 4)
    tracker.state("paused")
    wall.t += 3600
    assert tracker.details() == {"point": "1/4", "left_s": 15.0, "rates": {"1": 1000.0}}
    assert tracker.state_text == "paused"
    tracker.say("hello")
    tracker.finish()
    assert viewer.told == [
        ("start", "scan", 20.0), ("state", "running"), ("points", 0, 4), ("advance", 5.0, {"1": 1000.0}),
        ("points", 1, 4), ("state", "paused"), ("say", "hello"), ("finish",),
    ]  # fmt: skip


def test_without_points_none_are_told():
    tracker = Tracker(wall=Wall())
    tracker.start("hbt", 20.0)
    assert tracker.details() == {"left_s": 20.0, "rates": {}}


def test_durations_for_people():
    assert time_text(750.4) == "0:12:30"


def test_a_viewer_that_fails_is_not_told_anything_more():
    calls = []

    class Closed(Silent):
        def say(self, text):
            calls.append(text)
            raise OSError("the terminal is gone")

    tracker = Tracker(Closed())
    tracker.say("one")
    tracker.say("two")
    tracker.finish()
    assert calls == ["one"]
