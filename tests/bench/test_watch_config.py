"""Interlocks as a bench file writes them: limits with units, slopes, refusals."""

import pytest
from pydantic import ValidationError

from labctl.bench.watch_config import (
    DetectorGuardConfig,
    InterlockConfig,
    MonitorConfig,
    slope_of,
    value_of,
)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("0.5 K/s", "K", 0.5),
        ("30 mK / min", "K", 0.0005),
        ("-36 K/h", "K", 0.01),
        ("2 mW/s", "W", 0.002),
        ("5 1/s/s", "1/s", 5.0),
        ("1 MV/cm/s", "V/m", 1e8),
        (0.25, "K", 0.25),
        (-1, "rpm", 1.0),
    ],
)
def test_slopes(text, unit, value):
    assert slope_of(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("0.5 K", "is no slope; write for example '0.5 K/s'"), ("0.5 K/d", "is no slope"), ("1 m/s", "length")],
)
def test_what_is_no_slope(text, said):
    with pytest.raises(ValueError, match=said):
        slope_of(text, "K")


def test_values_are_in_the_unit_of_the_parameter():
    assert value_of("12 mK", "K") == 0.012
    assert value_of(3, "rpm") == 3.0
    with pytest.raises(ValueError, match="write a bare number"):
        value_of("3 rpm", "rpm")


def test_defaults_of_an_interlock():
    config = InterlockConfig(parameter="cryostat.temperature", high="12 K")
    assert (config.period, config.stale_s, config.hold, config.action) == (1.0, 30.0, 10.0, "suspend")
    slow = InterlockConfig(parameter="cryostat.temperature", high="12 K", period="1 min")
    assert slow.stale_s == 300.0


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (MonitorConfig, {"parameter": "temperature"}, "parameter"),
        (MonitorConfig, {"parameter": "a.b", "period": 0}, "period"),
        (InterlockConfig, {"parameter": "a.b", "period": "5 s", "stale": "5 s"}, "longer than the period"),
        (InterlockConfig, {"parameter": "a.b", "action": "shout"}, "suspend"),
        (InterlockConfig, {"parameter": "a.b", "hi": 3}, "Extra inputs"),
        (DetectorGuardConfig, {"channels": [], "max_rate": 1, "resume_below": 1}, "channels"),
        (DetectorGuardConfig, {"channels": [1], "max_rate": "1 MHz", "resume_below": "2 MHz"}, "above max"),
    ],
)
def test_refusals(model, given, said):
    with pytest.raises(ValidationError, match=said):
        model.model_validate(given)
