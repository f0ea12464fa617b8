"""The values of one scanned quantity, written so that people and files can read them.

`log(1 ns, 400 ns, 12)`, `linear(0 ns, 100 ns, 11)`, `points(1 ns, 2 ns, 5 ns)`, and sums of these
such as `points(0.3 ns) + log(1 ns, 390 ns, 19)`. An axis is lazy and knows its length without making
its points.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from labctl.errors import LabctlError
from labctl.quantities import exact_quantity, format_quantity, parse_quantity

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler


class SweepError(LabctlError, ValueError):
    """An axis or a scan that cannot be."""


@dataclass(frozen=True)
class Linear:
    """`n` equally spaced values from `start` to `stop`, both included."""

    start: float
    stop: float
    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> float:
        if self.n == 1:
            return self.start
        share = index / (self.n - 1)
        return self.start * (1 - share) + self.stop * share

    def text(self, unit: str) -> str:
        return f"linear({exact_quantity(self.start, unit)}, {exact_quantity(self.stop, unit)}, {self.n})"


@dataclass(frozen=True)
class Log:
    """`n` values from `start` to `stop`, both included, with equal ratios. Both ends must be positive."""

    start: float
    stop: float
    n: int

    def __post_init__(self) -> None:
        if self.start <= 0 or self.stop <= 0:
            raise SweepError("a log axis needs positive ends")

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> float:
        if self.n == 1 or index == 0:
            return self.start
        if index == self.n - 1:
            return self.stop
        return self.start * math.exp(math.log(self.stop / self.start) * index / (self.n - 1))

    def text(self, unit: str) -> str:
        return f"log({exact_quantity(self.start, unit)}, {exact_quantity(self.stop, unit)}, {self.n})"


@dataclass(frozen=True)
class Points:
    """The values as given."""

    values: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> float:
        return self.values[index]

    def text(self, unit: str) -> str:
        return f"points({', '.join(exact_quantity(v, unit) for v in self.values)})"


@dataclass(frozen=True)
class Axis:
    """The values of one scanned quantity: one or more parts, one after the other. `unit` is SI."""

    parts: tuple[Linear | Log | Points, ...]
    unit: str = ""

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> float:
        if not 0 <= index < len(self):
            raise IndexError(f"axis has {len(self)} points, no point {index}")
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise AssertionError("unreachable")

    def __iter__(self) -> Iterator[float]:
        for part in self.parts:
            yield from (part[i] for i in range(len(part)))

    def __str__(self) -> str:
        return " + ".join(part.text(self.unit) for part in self.parts)


_PART = re.compile(r"\s*(linear|log|points)\s*\(([^()]*)\)\s*$")


def parse_axis(text: Any, unit: str) -> Axis:
    """The axis that `text` describes, in the SI unit `unit`; a list is taken as points.

    Raises SweepError (or QuantityError) saying what is wrong and what would be right.
    """
    if isinstance(text, Axis):
        return text
    if isinstance(text, list | tuple):
        return Axis((Points(tuple(parse_quantity(v, unit) for v in text)),), unit)
    parts = tuple(_parse_part(part, unit) for part in str(text).split("+"))
    return Axis(parts, unit)


def _parse_part(text: str, unit: str) -> Linear | Log | Points:
    match = _PART.match(text)
    if match is None:
        raise SweepError(
            f"{text.strip()!r} is not an axis; write log(1 ns, 400 ns, 12), "
            "linear(0 ns, 100 ns, 11) or points(1 ns, 2 ns)"
        )
    kind, inside = match.groups()
    items = [item.strip() for item in inside.split(",") if item.strip()]
    if kind == "points":
        if not items:
            raise SweepError("points() needs at least one value")
        return Points(tuple(parse_quantity(item, unit) for item in items))
    if len(items) != 3 or not items[2].isdigit() or int(items[2]) < 1:
        raise SweepError(f"{text.strip()!r}: {kind} takes (start, stop, number of points)")
    start, stop = (parse_quantity(item, unit) for item in items[:2])
    return (Linear if kind == "linear" else Log)(start, stop, int(items[2]))


@dataclass(frozen=True)
class AxisOf:
    """Marks a pydantic field of type Axis whose values have the SI unit `symbol`, within [low, high]."""

    symbol: str
    low: float = -math.inf
    high: float = math.inf

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            self._parse, serialization=core_schema.to_string_ser_schema()
        )

    def _parse(self, value: Any) -> Axis:
        axis = parse_axis(value, self.symbol)
        outside = next((v for v in axis if not self.low <= v <= self.high), None)
        if outside is not None:
            raise SweepError(
                f"{format_quantity(outside, self.symbol)} lies outside "
                f"{format_quantity(self.low, self.symbol)} .. {format_quantity(self.high, self.symbol)}"
            )
        return axis


TimeAxis = Annotated[Axis, AxisOf("s")]
