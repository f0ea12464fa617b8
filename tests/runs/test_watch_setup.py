"""What a bench file asks to be watched, on a bench that has it or not."""

import math
from types import SimpleNamespace

import pytest

from labctl.bench.watch_config import DetectorGuardConfig, InterlockConfig, MonitorConfig
from labctl.config_files import ConfigError
from labctl.runs.watch import Condition
from labctl.runs.watch_setup import make_detector_guard, make_watchman


class Parameter:
    def __init__(self, value, unit):
        self.value = value
        self.unit = unit

    def __call__(self):
        return self.value


@pytest.fixture
def bench():
    stage = SimpleNamespace(heater=Parameter(0.1, ""))
    cryostat = SimpleNamespace(temperature=Parameter(5.0, "K"), stage=stage)
    return SimpleNamespace(file="bench.yaml", cryostat=cryostat)


def test_monitors_and_interlocks_of_one_parameter_share_its_readings(bench):
    man = make_watchman(
        bench,
        [
            MonitorConfig(parameter="cryostat.temperature", period="5 s"),
            MonitorConfig(parameter="cryostat.stage.heater"),
        ],
        [InterlockConfig(parameter="cryostat.temperature", period="2 s", high="4 K")],
    )
    first, second = man.look(0.0), man.look(2.0)
    assert {r.name: (r.value, r.unit) for r in first.readings} == {
        "cryostat.temperature": (5.0, "K"),
        "cryostat.stage.heater": (0.1, ""),
    }
    assert [trip.condition.watch for trip in first.trips] == ["cryostat.temperature"]
    assert [r.name for r in second.readings] == ["cryostat.temperature"]


def test_limits_are_taken_in_the_unit_of_the_parameter(bench):
    bench.cryostat.temperature.value = 500.0
    config = InterlockConfig(
        parameter="cryostat.temperature", low="100 mK", high="12 K", slope="30 K/min", window="20 s",
        stale="7 s", hysteresis="50 mK", hold="3 s", action="abort",
    )  # fmt: skip
    (trip,) = make_watchman(bench, [], [config]).look(0.0).trips
    assert trip.condition == Condition("cryostat.temperature", 0.1, 12.0, 0.5, 20.0, 7.0, 0.05, 3.0, "abort")


def test_a_side_without_a_limit_is_open(bench):
    bench.cryostat.temperature.value = math.nan
    config = InterlockConfig(parameter="cryostat.temperature")
    (trip,) = make_watchman(bench, [], [config]).look(0.0).trips
    assert (trip.condition.low, trip.condition.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"parameter": "cryostat.pressure"}, "bench.yaml: cryostat.pressure"),
        ({"parameter": "cryostat.stage"}, "not a parameter"),
        ({"parameter": "cryostat.temperature", "high": "12 m"}, "cryostat.temperature: .*length"),
        ({"parameter": "cryostat.temperature", "low": 5, "high": 4}, "no value lies within"),
    ],
)
def test_says_what_the_bench_file_has_wrong(bench, config, said):
    with pytest.raises(ConfigError, match=said):
        make_watchman(bench, [], [InterlockConfig(**config)])


def test_the_detector_guard_of_a_bench_file():
    config = DetectorGuardConfig(channels=[1, 2], max_rate="2 MHz", resume_below="1 MHz")
    guard = make_detector_guard(config)
    assert (guard.channels, guard.max_rate_hz, guard.resume_below_hz) == ((1, 2), 2e6, 1e6)
