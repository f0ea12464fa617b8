"""Snapshots of the instruments as one flat table: what every parameter of every instrument read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reading:
    """The value of a parameter in its SI unit, "" if it has none."""

    value: Any
    unit: str = ""


def readings(snapshot: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Reading]:
    """Readings by (instrument, parameter); a bare value is a reading without unit."""
    return {
        (instrument, name): _reading(value)
        for instrument, values in snapshot.items()
        for name, value in values.items()
    }


def _reading(value: Any) -> Reading:
    if isinstance(value, Mapping) and "value" in value:
        return Reading(value["value"], str(value.get("unit", "")))
    return Reading(value)
