"""Scan axes: text and values."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from labctl.sweeps import Axis, Linear, Log, Points, SweepError, TimeAxis, parse_axis


def test_log_axis_has_exact_ends_and_equal_ratios():
    axis = parse_axis("log(1 ns, 400 ns, 12)", "s")
    values = list(axis)
    assert (len(axis), values[0], values[-1]) == (12, 1e-9, 400e-9)
    ratios = [b / a for a, b in pairwise(values)]
    assert max(ratios) / min(ratios) == pytest.approx(1, abs=1e-12)


def test_axes_can_be_joined():
    axis = parse_axis("points(0.3 ns) + linear(1 ns, 3 ns, 3)", "s")
    assert list(axis) == pytest.approx([0.3e-9, 1e-9, 2e-9, 3e-9])
    assert axis[1] == 1e-9


parts = st.one_of(
    st.builds(Linear, st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 9)),
    st.builds(Log, st.floats(1e-12, 1), st.floats(1e-12, 1), st.integers(1, 9)),
    st.builds(Points, st.lists(st.floats(-1, 1), min_size=1, max_size=5).map(tuple)),
)


@given(st.lists(parts, min_size=1, max_size=3).map(tuple))
def test_text_round_trip(parts):
    axis = Axis(parts, "s")
    again = parse_axis(str(axis), "s")
    assert again == axis
    assert list(again) == list(axis)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log(0 ns, 1 ns, 3)", "positive"),
        ("log(1 ns, 2 ns)", "number of points"),
        ("sin(1 ns)", "is not an axis; write log"),
        ("points()", "at least one"),
        ("linear(1 ns, 2 m, 3)", "is a length"),
    ],
)
def test_says_what_is_wrong(text, said):
    with pytest.raises(ValueError, match=said):
        parse_axis(text, "s")


def test_field_round_trip_through_json():
    class Model(BaseModel):
        delays: TimeAxis

    model = Model(delays="log(1 ns, 4 ns, 3)")
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert list(Model(delays=["1 ns", 2e-9]).delays) == [1e-9, 2e-9]


def test_an_index_outside_is_an_error():
    with pytest.raises(IndexError):
        parse_axis("points(1 s)", "s")[1]


def test_log_needs_positive_ends():
    with pytest.raises(SweepError):
        Log(-1, 1, 3)
