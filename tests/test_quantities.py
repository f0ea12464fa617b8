"""Quantities: text with units to SI and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from labctl.quantities import QuantityError, Seconds, any_quantity, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("30 s", "s", 30.0),
        ("0.3 ns", "s", 0.3e-9),
        ("20ps", "s", 20e-12),
        ("2 min", "s", 120.0),
        ("10 MV/cm", "V/m", 1e9),
        ("-12 dBm", "dBm", -12.0),
        ("45 deg", "deg", 45.0),
        ("5 mW", "W", 5e-3),
        ("2.5 MHz", "Hz", 2.5e6),
        ("10 %", "", 0.1),
        ("1e-3", "s", 1e-3),
        (7, "s", 7.0),
        ("5 µW", "W", 5e-6),
    ],
)
def test_parses_to_the_nearest_float(text, unit, value):
    assert parse_quantity(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "said"),
    [
        ("30 m", "s", "is a length, expected a time such as '30 s'"),
        ("3 foo", "W", "unknown unit 'foo'"),
        ("quickly", "s", "is not a time"),
        ("", "s", "is not a time"),
        (True, "s", "is not a time"),
        ("nan", "s", "is not a time"),
        ("30 MS", "s", "unknown unit 'MS'"),
    ],
)
def test_says_what_is_wrong(text, unit, said):
    with pytest.raises(QuantityError, match=said):
        parse_quantity(text, unit)


@given(st.floats(1e-14, 1e4), st.sampled_from(["s", "W", "J", "Hz", "V/m", ""]))
def test_formatting_and_parsing_agree(value, unit):
    assert parse_quantity(format_quantity(value, unit, digits=15), unit) == pytest.approx(value, rel=1e-13)


def test_a_field_takes_text_and_keeps_its_bounds():
    class Model(BaseModel):
        dwell: Seconds = Field(1.0, ge=0.1, le=10)

    assert Model(dwell="300 ms").dwell == 0.3
    with pytest.raises(ValueError, match="less than or equal to 10"):
        Model(dwell="1 min")
    with pytest.raises(ValueError, match="is a power, expected a time"):
        Model(dwell="3 mW")


def test_any_quantity_says_its_unit():
    found = [any_quantity(text) for text in ("2 min", "3 m", "5 mW", "10 %", "0.3", "-12 dBm")]
    assert found == [(120.0, "s"), (3.0, "m"), (5e-3, "W"), (0.1, ""), (0.3, ""), (-12.0, "dBm")]
    for text in ("", "s", "3 parsec", "X"):
        with pytest.raises(QuantityError, match="is not a quantity"):
            any_quantity(text)
