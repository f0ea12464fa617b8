"""What may go into a run: names, plots and values that the run file can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from .contents import ROW_COLUMNS
from .records import clean

Value = float | int | str | bool | np.generic
_SIMPLE = frozenset({float, bool})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MONITOR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")


def check_default_plot(plot: Any) -> None:
    """Raises ValueError for a default plot without sweep, axis and signal."""
    if plot and not (isinstance(plot, Mapping) and {"sweep", "axis", "signal"} <= plot.keys()):
        raise ValueError(f"default_plot {plot!r}: give sweep, axis and signal, and errors if there are any")


@lru_cache(maxsize=1024)
def cleaned(text: str) -> str:
    """`clean`, for names that come again and again."""
    return clean(text)


@lru_cache(maxsize=1024)
def check_monitor_name(name: str) -> None:
    """Raises ValueError for a name that a group of a file cannot have."""
    if not _MONITOR_NAME.fullmatch(name):
        raise ValueError(f"monitor {name!r}: use letters, digits, _ and single dots, as cryostat.temperature")


@lru_cache(maxsize=1024)
def check_name(name: str, reserved: tuple[str, ...] = ()) -> None:
    """Raises ValueError for a name that is no identifier, or that is taken."""
    if not _NAME.fullmatch(name) or name in reserved:
        taken = f"; taken are {', '.join(reserved)}" if reserved else ""
        raise ValueError(f"name {name!r}: use letters, digits and _, beginning with a letter{taken}")


@lru_cache(maxsize=1024)
def check_columns(names: tuple[str, ...]) -> None:
    """Raises ValueError for names that a row's values cannot have."""
    for name in names:
        check_name(name, ROW_COLUMNS)


def plain_values(values: Mapping[str, Value]) -> Mapping[str, float | int | str]:
    """`values` as floats, ints, bools and texts. Raises TypeError or ValueError for what HDF5 cannot hold."""
    if _SIMPLE.issuperset(map(type, values.values())):  # as nearly always
        return values  # type: ignore[return-value]
    return {name: _plain_value(name, value) for name, value in values.items()}


def plain_integer(name: str, value: Any) -> int:
    """`value` as an int. Raises ValueError when it has more than 64 bits."""
    value = int(value)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"value {name!r} = {value} has more than 64 bits; record it as a float or as text")
    return value


def _plain_value(name: str, value: Any) -> float | int | str:
    plain = value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
    if not isinstance(plain, float | int | str):
        raise TypeError(f"value {name!r} is {type(value).__name__}; a row holds numbers, booleans and text")
    if isinstance(plain, str) and re.search("[\0\ud800-\udfff]", plain):
        raise ValueError(f"value {name!r}: HDF5 text holds no NUL and no half characters; remove them")
    if isinstance(plain, int) and not isinstance(plain, bool):
        return plain_integer(name, plain)
    return plain
