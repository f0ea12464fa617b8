"""Waiting for a steady value, and ramps."""

import math
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.instruments.errors import NotReady
from labctl.runs.settle import Steady, ramp_steps


def steady(**changes):
    given = {"target": 5.0, "tolerance": 0.5, "hold_s": 2.0, "deadline_s": 10.0, "what": "temperature"}
    return Steady(**given | changes)


def judge(steady, values, start=0.0):
    """Judge one reading per second; how many it took."""
    for number, value in enumerate(values):
        if steady.reached(value, start + number):
            return number
    return None


def test_every_reading_of_the_hold_must_be_inside():
    assert judge(steady(), [9, 5, 5, 9, 5, 5, 5, 5]) == 6


def test_the_ends_belong_to_the_range():
    assert judge(steady(hold_s=0.0), [5.5]) == judge(steady(hold_s=0.0), [4.5]) == 0


def test_without_a_hold_the_first_reading_inside_is_enough():
    wait = steady(hold_s=0.0)
    assert judge(wait, [9, 5.2]) == 1
    assert wait.last == 5.2


@pytest.mark.parametrize("value", [9.0, math.nan])
def test_the_deadline(value):
    wait = steady()
    assert judge(wait, [value] * 10) is None
    with pytest.raises(NotReady, match=r"temperature is (9|nan) after 10 s, .*0.5 of 5 for 2 s"):
        wait.reached(value, 10.0)


def test_inside_but_too_late_for_the_hold():
    with pytest.raises(NotReady):
        judge(steady(), [9] * 9 + [5, 5, 5])


def test_steady_at_the_very_deadline_is_in_time():
    assert judge(steady(), [9] * 8 + [5, 5, 5]) == 10


def test_a_run_that_was_held_up_begins_anew():
    wait = steady()
    assert judge(wait, [9, 5, 5]) is None
    wait.restart()
    assert judge(wait, [5, 5, 5], start=5000.0) == 2


finite = st.floats(-1e3, 1e3)


@given(finite, finite, st.floats(0.1, 1e3), st.floats(0.1, 10))
def test_a_ramp_is_never_faster_than_its_rate_and_ends_on_the_target(start, target, rate, period_s):
    values = [start, *ramp_steps(start, target, rate, period_s)]
    assert values[-1] == target
    longest = rate * period_s
    assert all(abs(b - a) <= longest * (1 + 1e-6) + 1e-9 for a, b in pairwise(values))
    assert len(values) - 1 <= abs(target - start) / longest + 1
    assert values == sorted(values, reverse=target < start)


def test_steps_of_a_ramp():
    assert list(ramp_steps(0.0, 1.0, rate=0.5, period_s=0.5)) == [0.25, 0.5, 0.75, 1.0]
    assert list(ramp_steps(0.0, 0.3, rate=1.0, period_s=0.1)) == pytest.approx([0.1, 0.2, 0.3])


def test_a_ramp_to_where_it_is_sets_it_once():
    assert list(ramp_steps(2.0, 2.0, 1.0, 1.0)) == [2.0]


def test_a_long_ramp_is_made_step_by_step():
    assert list(islice(ramp_steps(0.0, 1.0, 1e-9, 1e-3), 1)) == [pytest.approx(1e-12)]


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 1, 0, 1),
        (0, 1, -1, 1),
        (0, 1, 1, 0),
        (0, 1, math.nan, 1),
        (math.nan, 1, 1, 1),
        (0, math.inf, 1, 1),
    ],
)
def test_ramps_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="a ramp"):
        ramp_steps(*arguments)
