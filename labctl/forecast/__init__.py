"""What a run will be like, told before it: the experiment is rehearsed on a twin, in a process of its own."""

from .child import DryRun, dry_run
from .forecast import CountForecast, EstimateForecast, Forecast, ForecastError, LinkForecast
from .rehearsal import default_scale

__all__ = [
    "CountForecast",
    "DryRun",
    "EstimateForecast",
    "Forecast",
    "ForecastError",
    "LinkForecast",
    "default_scale",
    "dry_run",
]
