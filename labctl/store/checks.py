"""What may go into a run: names, plots and values that the run file can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from .records import clean

Value = float | int | str | bool | np.generic
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MONITOR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")


def check_default_plot(plot: Any) -> None:
    if plot and not (isinstance(plot, Mapping) and {"sweep", "axis", "signal"} <= plot.keys()):
        raise ValueError(f"default_plot {plot!r}: give sweep, axis and signal, and errors if there are any")


@lru_cache(maxsize=1024)
def cleaned(text: str) -> str:
    return clean(text)


@lru_cache(maxsize=1024)
def check_monitor_name(name: str) -> None:
    if not _MONITOR_NAME.fullmatch(name):
        raise ValueError(f"monitor {name!r}: use letters, digits, _ and single dots, as cryostat.temperature")


@lru_cache(maxsize=1024)
def check_name(name: str, reserved: tuple[str, ...] = ()) -> None:
    if not _NAME.fullmatch(name) or name in reserved:
        taken = f"; taken are {', '.join(reserved)}" if reserved else ""
        raise ValueError(f"name {name!r}: use letters, digits and _, beginning with a letter{taken}")


def plain_value(name: str, value: Any) -> float | int | str:
    if type(value) is float:  # nearly all are
        return value
    plain = value.item() if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0 else value
    if not isinstance(plain, float | int | str):
        raise TypeError(f"value {name!r} is {type(value).__name__}; a row holds numbers, booleans and text")
    if isinstance(plain, int) and not -(2**63) <= plain < 2**63:
        raise ValueError(f"value {name!r} = {plain} has more than 64 bits; record it as a float or as text")
    if isinstance(plain, str) and re.search("[\0\ud800-\udfff]", plain):
        raise ValueError(f"value {name!r}: HDF5 text holds no NUL and no half characters; remove them")
    return plain
