"""From the bench file to what watches over a run: parameters found, limits in their units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from labctl.bench.watch_config import (
    DetectorGuardConfig,
    InterlockConfig,
    MonitorConfig,
    slope_of,
    value_of,
)
from labctl.config_files import ConfigError
from labctl.quantities import QuantityError
from labctl.runs.detector_guard import DetectorGuard
from labctl.runs.watch import Condition, Watch, Watchman


class _Parameter(Protocol):
    unit: str

    def __call__(self) -> Any: ...


def make_watchman(
    bench: Any, monitors: Sequence[MonitorConfig], interlocks: Sequence[InterlockConfig]
) -> Watchman:
    """The watchman of an open bench; a parameter that occurs several times is read at its shortest period.

    Raises ConfigError naming the parameter that the bench has not, or the limit that cannot be.
    """
    periods: dict[str, float] = {}
    wanted: list[MonitorConfig | InterlockConfig] = [*monitors, *interlocks]
    for config in wanted:
        periods[config.parameter] = min(config.period, periods.get(config.parameter, math.inf))
    parameters = {path: _parameter(bench, path) for path in periods}
    watches = [Watch(path, p.unit, periods[path], p) for path, p in parameters.items()]
    return Watchman(watches, [_condition(config, parameters[config.parameter].unit) for config in interlocks])


def make_detector_guard(config: DetectorGuardConfig) -> DetectorGuard:
    """The guard that a bench file asks for."""
    return DetectorGuard(config.channels, config.max_rate, config.resume_below)


def _parameter(bench: Any, path: str) -> _Parameter:
    """The parameter `instrument.parameter` or `instrument.channel.parameter` of the bench."""
    found = bench
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise ConfigError(f"{bench.file}: {path}: {error}") from error
    if not callable(found) or not hasattr(found, "unit"):
        raise ConfigError(f"{bench.file}: {path} is not a parameter that can be read")
    return found


def _condition(config: InterlockConfig, unit: str) -> Condition:
    try:
        return Condition(
            watch=config.parameter,
            low=-math.inf if config.low is None else value_of(config.low, unit),
            high=math.inf if config.high is None else value_of(config.high, unit),
            max_slope_per_s=math.inf if config.slope is None else slope_of(config.slope, unit),
            slope_window_s=config.window,
            stale_s=config.stale_s,
            hysteresis=value_of(config.hysteresis, unit),
            hold_s=config.hold,
            action=config.action,
        )
    except QuantityError as error:
        raise ConfigError(f"interlock on {config.parameter}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"interlock {error}") from error
