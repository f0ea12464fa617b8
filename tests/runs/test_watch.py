"""Monitors and interlocks: every way of going wrong is noticed, every release is earned."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.runs.watch import Condition, Watch, Watchman


class Sensor:
    """A value that a test sets; an exception in its place is raised."""

    def __init__(self, value=5.0):
        self.value = value
        self.reads = 0

    def __call__(self):
        self.reads += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture
def sensor():
    return Sensor()


def watchman(sensor, *, period=1.0, stamp=None, **condition):
    return Watchman([Watch("t", "K", period, sensor, stamp)], [Condition("t", **condition)])


def look_at(man, sensor, values, start=0.0, step=1.0):
    """Look once at each value; what each look found as "", "trip" or "release"."""
    found = []
    for number, value in enumerate(values):
        sensor.value = value
        findings = man.look(start + number * step)
        found.append("trip" * len(findings.trips) + "release" * len(findings.releases))
    return found


def test_a_watch_is_read_when_it_is_due(sensor):
    man = Watchman([Watch("t", "K", 5.0, sensor)], [])
    times = [r.time_s for now in range(12) for r in man.look(float(now)).readings]
    assert times == [0.0, 5.0, 10.0]
    assert sensor.reads == 3


def test_after_a_long_step_it_is_read_once(sensor):
    man = Watchman([Watch("t", "K", 1.0, sensor)], [])
    man.look(0.0)
    assert len(man.look(1000.0).readings) == 1
    assert man.look(1000.5).readings == []


def test_a_reading_has_name_value_unit_and_time(sensor):
    (reading,) = watchman(sensor).look(7.0).readings
    assert (reading.name, reading.unit, reading.time_s, reading.value, reading.problem) == (
        "t", "K", 7.0, 5.0, "",
    )  # fmt: skip


@pytest.mark.parametrize(("limits", "bad"), [({"high": 12}, 12.1), ({"low": 3}, 2.9)])
def test_out_of_range_trips_once(sensor, limits, bad):
    man = watchman(sensor, **limits)
    assert look_at(man, sensor, [5, bad, bad, bad]) == ["", "trip", "", ""]
    assert [trip.time_s for trip in man.tripped] == [1.0]


def test_the_ends_of_the_range_belong_to_it(sensor):
    assert look_at(watchman(sensor, low=3, high=12), sensor, [3, 12]) == ["", ""]


def test_pre_tripped(sensor):
    assert look_at(watchman(sensor, high=4), sensor, [5]) == ["trip"]


def test_trips_again_after_release(sensor):
    man = watchman(sensor, high=12)
    assert look_at(man, sensor, [20, 5, 20, 5, 20]) == ["trip", "release", "trip", "release", "trip"]


def test_trips_again_on_the_way_through_a_hold(sensor):
    man = watchman(sensor, high=12, hold_s=2)
    assert look_at(man, sensor, [20, 5, 5, 20, 5, 5, 5]) == ["trip", "", "", "", "", "", "release"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_trips_even_without_limits(sensor, bad):
    man = watchman(sensor)
    assert look_at(man, sensor, [5, bad, bad, 5]) == ["", "trip", "", "release"]


def test_a_reading_that_raises_is_missing_and_trips_only_when_stale(sensor):
    man = watchman(sensor, stale_s=3)
    broken = OSError("no answer")
    assert look_at(man, sensor, [5, broken, broken, broken, broken]) == ["", "", "", "", "trip"]
    assert "no answer" in man.tripped[0].reason and "not read for 4 s" in man.tripped[0].reason
    assert look_at(man, sensor, [broken, 5], start=5.0) == ["", "release"]


def test_a_sensor_that_never_answers_is_stale(sensor):
    sensor.value = OSError("no answer")
    man = watchman(sensor, stale_s=2.5)
    assert [len(man.look(t).trips) for t in (10.0, 11.0, 12.0, 13.0)] == [0, 0, 0, 1]


def test_a_missing_reading_is_recorded_with_its_reason(sensor):
    sensor.value = OSError("no answer")
    (reading,) = watchman(sensor).look(0.0).readings
    assert math.isnan(reading.value)
    assert reading.problem == "OSError: no answer"


def test_stale_between_two_readings(sensor):
    man = watchman(sensor, period=10.0, stale_s=3)
    assert [len(man.look(t).trips) for t in (0.0, 3.0, 3.1, 3.2)] == [0, 0, 1, 0]


def test_a_long_step_is_not_stale_when_the_sensor_answers(sensor):
    man = watchman(sensor, stale_s=3)
    man.look(0.0)
    assert man.look(1000.0).trips == []


def test_an_unchanged_stamp_is_no_fresh_reading(sensor):
    stamps = iter([100.0, 101.0, 101.0, 101.0, 101.0, 102.0])
    man = watchman(sensor, stale_s=2, stamp=lambda: next(stamps))
    assert look_at(man, sensor, [5] * 6) == ["", "", "", "", "trip", "release"]


def test_a_reading_that_comes_too_late_is_missing(sensor):
    wall = iter([0.0, 3.0, 10.0, 10.5])
    man = Watchman([Watch("t", "K", 1.0, sensor, limit_s=2.0)], [], wall=lambda: next(wall))
    late, in_time = man.look(0.0).readings + man.look(1.0).readings
    assert math.isnan(late.value) and "after 3 s" in late.problem
    assert in_time.value == 5.0


def test_an_interrupt_is_not_swallowed():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watchman(interrupted).look(0.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_slope_up_or_down(sensor, sign):
    man = watchman(sensor, max_slope_per_s=0.5, slope_window_s=4)
    slow = [0.4 * t * sign for t in range(10)]
    fast = [slow[-1] + 0.8 * t * sign for t in range(1, 10)]
    found = look_at(man, sensor, slow + fast)
    assert found.count("trip") == 1 and "trip" in found[10:15]
    assert "faster than 500 mK per s" in man.tripped[0].reason


def test_one_noisy_reading_is_no_slope(sensor):
    man = watchman(sensor, max_slope_per_s=0.5, slope_window_s=20)
    assert look_at(man, sensor, [5.0] * 10 + [6.0] + [5.0] * 10) == [""] * 21


def test_two_readings_at_the_start_are_no_slope_yet(sensor):
    man = watchman(sensor, max_slope_per_s=0.5, slope_window_s=10)
    assert look_at(man, sensor, [5.0, 6.0]) == ["", ""]


def test_slope_when_readings_are_further_apart_than_the_window(sensor):
    man = watchman(sensor, max_slope_per_s=0.5, slope_window_s=1)
    assert look_at(man, sensor, [0.0, 10.0], step=15.0) == ["", "trip"]


def test_a_slope_is_released_when_it_is_over(sensor):
    man = watchman(sensor, max_slope_per_s=0.5, slope_window_s=2)
    found = look_at(man, sensor, [0, 1, 2, 3, 3, 3, 3, 3])
    assert [kind for kind in found if kind] == ["trip", "release"]


def test_hysteresis_edge(sensor):
    man = watchman(sensor, low=2, high=12, hysteresis=1)
    assert look_at(man, sensor, [13, 11.01, 11.0]) == ["trip", "", "release"]
    assert look_at(man, sensor, [1, 2.99, 3.0], start=3.0) == ["trip", "", "release"]


def test_within_the_hysteresis_nothing_trips(sensor):
    assert look_at(watchman(sensor, high=12, hysteresis=1), sensor, [11.5, 11.9]) == ["", ""]


def test_release_needs_the_whole_hold(sensor):
    man = watchman(sensor, high=12, hold_s=3)
    assert look_at(man, sensor, [20, 5, 5, 5, 5]) == ["trip", "", "", "", "release"]


def test_a_missing_reading_starts_the_hold_anew(sensor):
    man = watchman(sensor, high=12, hold_s=2)
    assert look_at(man, sensor, [20, 5, OSError(), 5, 5, 5]) == ["trip", "", "", "", "", "release"]


def test_time_alone_releases_nothing(sensor):
    man = watchman(sensor, period=10.0, high=12)
    sensor.value = 20
    man.look(0.0)
    sensor.value = 5
    assert man.look(9.9).releases == []
    (released,) = man.look(10.0).releases
    assert (released.time_s, released.value) == (0.0, 20)
    assert man.tripped == []


def test_two_conditions_on_one_value_trip_by_themselves(sensor):
    conditions = [Condition("t", high=10), Condition("t", high=20, action="abort")]
    man = Watchman([Watch("t", "K", 1.0, sensor)], conditions)
    sensor.value = 15
    assert [t.condition.action for t in man.look(0.0).trips] == ["suspend"]
    sensor.value = 25
    assert [t.condition.action for t in man.look(1.0).trips] == ["abort"]
    assert len(man.tripped) == 2


def test_one_broken_sensor_does_not_hide_another(sensor):
    broken = Sensor(OSError("dead"))
    watches = [Watch("a", "K", 1.0, broken), Watch("b", "K", 1.0, sensor)]
    man = Watchman(watches, [Condition("b", high=1)])
    assert [trip.condition.watch for trip in man.look(0.0).trips] == ["b"]


def test_reasons_say_what_and_which_limit(sensor):
    man = watchman(sensor, low=1, high=4)
    assert man.look(0.0).trips[0].reason == "t is 5 K, outside 1 K .. 4 K"


def test_conditions_that_cannot_be_are_refused(sensor):
    with pytest.raises(ValueError, match="narrowed by 2"):
        Condition("t", low=1, high=4, hysteresis=2)
    with pytest.raises(ValueError, match="not watched"):
        Watchman([], [Condition("t")])
    with pytest.raises(ValueError, match="same name"):
        Watchman([Watch("t", "K", 1.0, sensor)] * 2, [])


readings = st.one_of(st.floats(allow_nan=True), st.just(OSError("no answer")))


@given(st.lists(readings, max_size=40), st.floats(0, 3), st.floats(0, 2))
def test_whatever_is_read_a_trip_and_its_release_alternate(values, hysteresis, hold):
    sensor = Sensor()
    man = watchman(sensor, low=-10, high=10, hysteresis=hysteresis, hold_s=hold, stale_s=3, max_slope_per_s=4)
    found = [kind for kind in look_at(man, sensor, values) if kind]
    assert found == ["trip", "release"] * (len(found) // 2) + ["trip"] * (len(found) % 2)
    assert len(man.tripped) == len(found) % 2


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=40))
def test_while_it_is_not_tripped_the_last_value_is_in_range(values):
    sensor = Sensor()
    man = watchman(sensor, low=-10, high=10, hysteresis=1)
    for number, value in enumerate(values):
        sensor.value = value
        man.look(float(number))
        assert man.tripped or -10 <= value <= 10
        assert not (man.tripped and -9 <= value <= 9)
