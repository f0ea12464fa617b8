"""Scans as JSON: what a file says about a scan, and exactly that scan made from it again.

Each node is an object with its own key: `{"product": [outer, inner]}`, `{"zipped": [a, b]}`,
`{"snake": a}`, `{"repeat": 3, "scan": a}`, `{"shuffled": 7, "scan": a}`, and at the leaves
`{"axis": "delay", "unit": "s", "parts": [{"log": [1e-9, 4e-7, 12]}, {"points": [5e-7]}]}`.
"""

from __future__ import annotations

from typing import Any

from .axes import Axis, Linear, Log, Points, SweepError
from .scans import AxisScan, Product, Repeat, Scan, Shuffled, Snake, Zipped


def scan_to_json(scan: Scan) -> dict[str, Any]:
    """`scan` as a JSON object. Raises TypeError for a scan of another kind than the algebra's."""
    match scan:
        case AxisScan(name, axis):
            return {"axis": name, "unit": axis.unit, "parts": [_part_to_json(part) for part in axis.parts]}
        case Product(outer, inner):
            return {"product": [scan_to_json(outer), scan_to_json(inner)]}
        case Zipped(scans):
            return {"zipped": [scan_to_json(each) for each in scans]}
        case Snake(inner):
            return {"snake": scan_to_json(inner)}
        case Repeat(inner, times):
            return {"repeat": times, "scan": scan_to_json(inner)}
        case Shuffled(inner, seed):
            return {"shuffled": seed, "scan": scan_to_json(inner)}
    raise TypeError(f"{type(scan).__name__} has no JSON form")


def scan_from_json(data: Any) -> Scan:
    """The scan that `scan_to_json` wrote. Raises SweepError with the part that is not a scan."""
    match data:
        case {"axis": str(name), "unit": str(unit), "parts": [_, *_] as parts}:
            return AxisScan(name, Axis(tuple(_part_from_json(part) for part in parts), unit))
        case {"product": [outer, inner]}:
            return Product(scan_from_json(outer), scan_from_json(inner))
        case {"zipped": [_, *_] as scans}:
            return Zipped(tuple(scan_from_json(each) for each in scans))
        case {"snake": inner}:
            return Snake(scan_from_json(inner))
        case {"repeat": int(times), "scan": inner}:
            return Repeat(scan_from_json(inner), times)
        case {"shuffled": int(seed), "scan": inner}:
            return Shuffled(scan_from_json(inner), seed)
    raise SweepError(f"not a scan: {str(data)[:100]}")


def _part_to_json(part: Linear | Log | Points) -> dict[str, Any]:
    match part:
        case Linear(start, stop, n):
            return {"linear": [start, stop, n]}
        case Log(start, stop, n):
            return {"log": [start, stop, n]}
        case Points(values):
            return {"points": list(values)}


def _part_from_json(data: Any) -> Linear | Log | Points:
    match data:
        case {"linear": [int() | float() as start, int() | float() as stop, int(n)]} if n > 0:
            return Linear(float(start), float(stop), n)
        case {"log": [int() | float() as start, int() | float() as stop, int(n)]} if n > 0:
            return Log(float(start), float(stop), n)
        case {"points": [_, *_] as values} if all(isinstance(value, int | float) for value in values):
            return Points(tuple(float(value) for value in values))
    raise SweepError(f"not a part of an axis: {str(data)[:100]}")
