"""The algebra of scans against plain loops, and its JSON form."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.sweeps import (
    Axis,
    Linear,
    Log,
    Points,
    Scan,
    SweepError,
    axis,
    grid,
    parse_axis,
    product,
    repeat,
    scan_from_json,
    scan_to_json,
    snake,
    zipped,
)

X = axis("x", parse_axis("points(1 s, 2 s, 3 s)", "s"))
Y = axis("y", parse_axis("points(10 m, 20 m)", "m"))
Z = axis("z", parse_axis("points(100, 200, 300)", ""))


def tuples(scan: Scan) -> list[tuple[float, ...]]:
    return [tuple(point.values()) for point in scan]


values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5)
three = st.tuples(values, values, values)


def named(name: str, points: list[float]) -> Scan:
    return axis(name, Axis((Points(tuple(points)),)))


@given(three)
def test_a_product_is_nested_loops(lists):
    x, y, z = (named(name, points) for name, points in zip("xyz", lists, strict=True))
    assert tuples(x * y * z) == tuples(x * (y * z)) == list(itertools.product(*lists))
    assert (x * y * z).shape == tuple(len(points) for points in lists)
    assert len(x * y * z) == len(tuples(x * y * z))


@given(three)
def test_a_snake_turns_around_after_each_row(lists):
    x, y, z = (named(name, points) for name, points in zip("xyz", lists, strict=True))
    expected, back_y, back_z = [], False, False
    for a in lists[0]:
        for b in reversed(lists[1]) if back_y else lists[1]:
            expected += [(a, b, c) for c in (reversed(lists[2]) if back_z else lists[2])]
            back_z = not back_z
        back_y = not back_y
    assert tuples(x * ~y * ~z) == tuples(x * (~y * ~z)) == expected


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_snake_moves_one_axis_by_one_step(nx, ny, nz):
    scan = repeat(2, ~(named("x", range(nx)) * ~named("y", range(ny)) * ~named("z", range(nz))))
    for before, after in itertools.pairwise(tuples(scan)):
        assert sum(abs(a - b) for a, b in zip(before, after, strict=True)) <= 1


@given(values, st.integers(1, 3))
def test_a_repeat_goes_through_again(points, times):
    assert tuples(repeat(times, named("x", points))) == [(v,) for v in points] * times
    there_and_back = [(v,) for v in [*points, *reversed(points)]]
    assert tuples(repeat(2, ~named("x", points))) == there_and_back


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=6), values)
def test_zipped_scans_move_together(pairs, outer):
    x, y = (named(name, list(points)) for name, points in zip("xy", zip(*pairs, strict=True), strict=True))
    assert tuples(zipped(x, y)) == pairs
    assert zipped(x, y).shape == (len(pairs),)
    rows = [[(o, *p) for p in (pairs if i % 2 == 0 else pairs[::-1])] for i, o in enumerate(outer)]
    assert tuples(named("o", outer) * ~zipped(x, y)) == list(itertools.chain(*rows))
    assert tuples(zipped(~x, y)) == pairs


def test_zipped_scans_of_equal_shape_keep_it():
    other = axis("u", X.axis) * axis("v", Y.axis)
    assert zipped(X * Y, other).shape == (3, 2)
    assert zipped(X * Y, named("w", range(6))).shape == (6,)


@given(values, st.integers(0, 2**40))
def test_a_shuffled_scan_has_the_same_points_from_the_same_seed(points, seed):
    scan = named("x", points) * named("y", [1.0, 2.0])
    assert sorted(tuples(scan.shuffled(seed))) == sorted(tuples(scan))
    assert tuples(scan.shuffled(seed)) == tuples(scan.shuffled(seed))
    assert scan.shuffled(seed).shape == (len(scan),)


def test_names_and_units_go_from_the_outermost_axis_inwards():
    scan = repeat(2, X * ~zipped(Y, axis("w", Y.axis)))
    assert scan.names == ("x", "y", "w")
    assert scan.units == {"x": "s", "y": "m", "w": "m"}
    assert scan.shape == (2, 3, 2)
    assert scan[0] == {"x": 1.0, "y": 10.0, "w": 10.0}


def test_functions_and_operators_say_the_same():
    assert product(X, snake(Y)) == X * ~Y
    assert grid(x=X.axis, y=Y.axis, z=Z.axis) == X * Y * Z


def test_a_vast_scan_is_made_point_by_point():
    long = Axis((Linear(0.0, 1.0, 10**6),))
    scan = repeat(10, grid(a=long, b=long, c=long))
    assert scan.shape == (10, 10**6, 10**6, 10**6)
    assert (axis("a", long) * ~axis("b", long))[10**12 - 1] == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("index", [-1, 6])
def test_an_index_outside_is_an_error(index):
    with pytest.raises(IndexError, match="6 points"):
        (X * Y)[index]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: X * X, "x is scanned twice"),
        (lambda: zipped(X, X), "x is scanned twice"),
        (lambda: zipped(X, Y), "x has 3, y has 2"),
        (lambda: zipped(), "at least one"),
        (lambda: grid(), "at least one axis"),
        (lambda: repeat(0, X), "repeated 0 times"),
    ],
)
def test_says_what_cannot_be(make, said):
    with pytest.raises(SweepError, match=said):
        make()


parts = st.one_of(
    st.builds(Linear, st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 4)),
    st.builds(Log, st.floats(1e-12, 1), st.floats(1e-12, 1), st.integers(1, 4)),
    st.builds(Points, st.lists(st.floats(-1, 1), min_size=1, max_size=3).map(tuple)),
)
axes = st.builds(Axis, st.lists(parts, min_size=1, max_size=2).map(tuple), st.sampled_from(["s", "", "arb"]))


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    """Any tree of the algebra over one to four axes."""
    scan = axis("a0", draw(axes))
    for number in range(1, draw(st.integers(1, 4))):
        other = axis(f"a{number}", draw(axes))
        scan = draw(st.sampled_from([scan * other, scan * ~other, other * ~scan]))
        if len(scan) < 100:
            alike = axis(f"b{number}", Axis((Linear(0.0, 1.0, len(scan)),)))
            scan = draw(st.sampled_from([scan, zipped(scan, alike), repeat(2, scan), scan.shuffled(number)]))
    return scan


@given(scans())
def test_json_round_trip_is_exact(scan):
    again = scan_from_json(json.loads(json.dumps(scan_to_json(scan))))
    assert again == scan
    last = len(scan) - 1
    assert (again[0], again[last]) == (scan[0], scan[last])


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"axis": "x", "unit": "s", "parts": []},
        {"axis": "x", "unit": "s", "parts": [{"linear": [0, 1, 0]}]},
        {"axis": "x", "unit": "s", "parts": [{"points": ["1 s"]}]},
        {"product": [{"snake": {}}, {}]},
        {"zipped": []},
        {"repeat": "2", "scan": {}},
        {"repeat": 0, "scan": {"axis": "x", "unit": "", "parts": [{"points": [1]}]}},
    ],
)
def test_other_json_is_no_scan(data):
    with pytest.raises(SweepError):
        scan_from_json(data)


def test_a_scan_of_another_kind_has_no_json_form():
    with pytest.raises(TypeError, match="no JSON form"):
        scan_to_json("x")
