"""What to scan and in which order: axes, scans of several axes, visits; lazy, seeded, with a JSON form."""

from labctl.quantities import QuantityError

from .axes import Axis, AxisOf, Linear, Log, Points, SweepError, TimeAxis, parse_axis
from .order import Visit, Visits, visits
from .scan_json import scan_from_json, scan_to_json
from .scans import Scan, axis, grid, product, repeat, snake, zipped

__all__ = [
    "Axis", "AxisOf", "Linear", "Log", "Points", "QuantityError", "Scan", "SweepError", "TimeAxis", "Visit",
    "Visits", "axis", "grid", "parse_axis", "product", "repeat", "scan_from_json", "scan_to_json", "snake",
    "visits", "zipped",
]  # fmt: skip
