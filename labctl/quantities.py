"""Quantities with units at the edges: "5 mW", "20 ps", "10 MV/cm" <-> SI floats.

Inside labctl every number is SI. Units appear only where people write or read: configuration files,
the command line, forms and tables. The units that are accepted are the stated table below, and
nothing is guessed: a length where a time is expected is an error that says so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from labctl.errors import LabctlError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

_PREFIXES = {"f": "1e-15", "p": "1e-12", "n": "1e-9", "u": "1e-6", "µ": "1e-6", "μ": "1e-6", "m": "1e-3",
             "": "1", "k": "1e3", "M": "1e6", "G": "1e9"}  # fmt: skip
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")


class QuantityError(LabctlError, ValueError):
    """A text that is not a quantity of the expected dimension."""


@dataclass(frozen=True)
class _Dimension:
    name: str
    units: dict[str, Decimal]
    shown: tuple[str, ...]  # units used for output, ascending


def _prefixed(unit: str, prefixes: str) -> dict[str, Decimal]:
    return {prefix + unit: Decimal(_PREFIXES[prefix]) for prefix in ["", *prefixes]}


_DIMENSIONS = {
    "s": _Dimension(
        "time",
        {**_prefixed("s", "fpnuµμm"), "min": Decimal(60), "h": Decimal(3600)},
        ("fs", "ps", "ns", "µs", "ms", "s"),
    ),
    "m": _Dimension("length", _prefixed("m", "pnuµμm"), ("pm", "nm", "µm", "mm", "m")),
    "W": _Dimension("power", _prefixed("W", "fpnuµμmk"), ("pW", "nW", "µW", "mW", "W")),
    "J": _Dimension("energy", _prefixed("J", "fpnuµμm"), ("fJ", "pJ", "nJ", "µJ", "mJ", "J")),
    "V": _Dimension("voltage", _prefixed("V", "nuµμmk"), ("µV", "mV", "V")),
    "K": _Dimension("temperature", _prefixed("K", "m"), ("mK", "K")),
    "Hz": _Dimension("frequency", _prefixed("Hz", "mkMG"), ("mHz", "Hz", "kHz", "MHz", "GHz")),
    "V/m": _Dimension(
        "electric field",
        {
            "V/m": Decimal(1),
            "kV/m": Decimal("1e3"),
            "MV/m": Decimal("1e6"),
            "GV/m": Decimal("1e9"),
            "V/cm": Decimal("1e2"),
            "kV/cm": Decimal("1e5"),
            "MV/cm": Decimal("1e8"),
        },
        ("V/cm", "kV/cm", "MV/cm"),
    ),
    "1/s": _Dimension(
        "rate",
        {"1/s": Decimal(1), "cps": Decimal(1), "kcps": Decimal(1000), "Mcps": Decimal(10**6)},
        ("1/s",),
    ),
    "deg": _Dimension("angle", {"deg": Decimal(1), "°": Decimal(1)}, ("deg",)),
    "dBm": _Dimension("level", {"dBm": Decimal(1)}, ("dBm",)),
    "": _Dimension("number", {"": Decimal(1), "%": Decimal("0.01")}, ("",)),
}


def parse_quantity(text: str | float | int, unit: str) -> float:
    """The SI value of `text`, which must be a quantity of the dimension of the SI unit `unit`.

    A bare number is taken as SI. Raises QuantityError with the units that would be right.
    """
    dimension = _DIMENSIONS[unit]
    if isinstance(text, bool) or not isinstance(text, str | float | int):
        raise QuantityError(f"{text!r} is not a {dimension.name}")
    match = _NUMBER.match(str(text))
    if match is None:
        raise QuantityError(f"{text!r} is not a {dimension.name}; write for example {_example(unit)}")
    number, written = match.groups()
    if not written:
        written = unit
    if written not in dimension.units:
        other = next((d.name for d in _DIMENSIONS.values() if written in d.units), None)
        what = f"is a {other}" if other else f"has the unknown unit {written!r}"
        raise QuantityError(
            f"{text!r} {what}, expected a {dimension.name} such as {_example(unit)} "
            f"(units: {', '.join(u for u in dimension.units if u and u.isascii())})"
        )
    return float(Decimal(number) * dimension.units[written])


def any_quantity(text: str) -> tuple[float, str]:
    """The SI value of a quantity of whatever dimension, and the SI unit of that dimension.

    Raises QuantityError when `text` is none.
    """
    match = _NUMBER.match(text)
    units = [symbol for symbol, d in _DIMENSIONS.items() if match and match[2] in d.units]
    if not units:
        raise QuantityError(f"{text!r} is not a quantity; write for example '30 s', '5 mW' or '0.3'")
    return parse_quantity(text, units[0]), units[0]


def format_quantity(value: float, unit: str, digits: int = 4) -> str:
    """`value` (SI) as text in the handiest unit of its dimension: 6.5e-9, "s" -> "6.5 ns"."""
    dimension = _DIMENSIONS.get(unit)
    if dimension is None or not math.isfinite(value):
        return f"{value:.{digits}g} {unit}".strip()
    shown = best_unit(value, unit)
    scaled = Decimal(repr(float(value))) / dimension.units[shown]
    return f"{float(scaled):.{digits}g} {shown}".strip()


def exact_quantity(value: float, unit: str) -> str:
    """`value` (SI) as the shortest text that `parse_quantity` turns into the same float again."""
    shown = best_unit(value, unit)
    scaled = Decimal(repr(float(value))) / _DIMENSIONS[unit].units[shown]
    return f"{scaled.normalize():f} {shown}".strip()


def best_unit(value: float, unit: str) -> str:
    """The unit of the dimension of `unit` in which `value` (SI) reads best."""
    dimension = _DIMENSIONS[unit]
    if value == 0:
        return unit if unit in dimension.shown else dimension.shown[-1]
    fitting = [u for u in dimension.shown if abs(value) >= float(dimension.units[u]) * (1 - 1e-12)]
    return fitting[-1] if fitting else dimension.shown[0]


def unit_factor(shown: str, unit: str) -> float:
    """SI value of one `shown` (a unit of the dimension of `unit`)."""
    return float(_DIMENSIONS[unit].units[shown])


def _example(unit: str) -> str:
    return {"s": "'30 s'", "m": "'532 nm'", "W": "'5 mW'", "V/m": "'10 MV/cm'", "Hz": "'2.5 MHz'",
            "deg": "'45 deg'", "dBm": "'-12 dBm'", "": "'0.3'"}.get(unit, f"'1 {unit}'")  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """Marks a pydantic float field as a quantity in the SI unit `symbol`; text with a unit is accepted."""

    symbol: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self._parse, handler(source))

    def _parse(self, value: Any) -> float:
        return parse_quantity(value, self.symbol)


def unit_of(metadata: list[Any]) -> str:
    """The unit symbol among the metadata of a pydantic field, "" if there is none."""
    return next((item.symbol for item in metadata if hasattr(item, "symbol")), "")


Seconds = Annotated[float, Unit("s")]
Metres = Annotated[float, Unit("m")]
Watts = Annotated[float, Unit("W")]
Joules = Annotated[float, Unit("J")]
Volts = Annotated[float, Unit("V")]
Kelvins = Annotated[float, Unit("K")]
Hertz = Annotated[float, Unit("Hz")]
VoltsPerMetre = Annotated[float, Unit("V/m")]
Degrees = Annotated[float, Unit("deg")]
Number = Annotated[float, Unit("")]
