"""How results are printed: JSON for programs, tables for people."""

from __future__ import annotations

import json
import math
from typing import Any

from labctl.quantities import best_unit, unit_factor


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1, default=str))  # noqa: T201


def print_table(title: str, columns: list[str], rows: list[list[str]], *, unbroken: int = 0) -> None:
    """A table for people; text in the first `unbroken` columns is not folded, so that it can be copied."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < unbroken)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_text(text: str) -> None:
    """A line for people."""
    print(text)  # noqa: T201


def estimate_table(title: str, rows: list[dict[str, Any]]) -> None:
    """quantity | estimate ± error | truth | pull."""
    lines = [
        [row["quantity"], with_error(row), _truth(row), "" if row["pull"] is None else f"{row['pull']:+.2f}"]
        for row in rows
    ]
    print_table(title, ["quantity", "estimate ± error", "truth", "pull"], lines)


def with_error(row: dict[str, Any]) -> str:
    """`29.8 ± 6.4 ns`, the error with two digits, asymmetric where the sides differ by more than 15 %."""
    unit, factor = _unit(row)
    low, high = row["error_low"] / factor, row["error_high"] / factor
    value = row["value"] / factor
    digits = _digits(min(low, high))
    if abs(low - high) <= 0.15 * max(low, high):
        return f"{value:.{digits}f} ± {(low + high) / 2:.{digits}f} {unit}".strip()
    return f"{value:.{digits}f} +{high:.{digits}f} -{low:.{digits}f} {unit}".strip()


def _truth(row: dict[str, Any]) -> str:
    if row["truth"] is None:
        return ""
    unit, factor = _unit(row)
    digits = _digits(min(row["error_low"], row["error_high"]) / factor)
    return f"{row['truth'] / factor:.{digits}f} {unit}".strip()


def _unit(row: dict[str, Any]) -> tuple[str, float]:
    try:
        shown = best_unit(row["value"], row["unit"])
        return shown, unit_factor(shown, row["unit"])
    except KeyError:
        return row["unit"], 1.0


def _digits(error: float) -> int:
    if error <= 0 or not math.isfinite(error):
        return 3
    return max(0, 1 - math.floor(math.log10(error)))
