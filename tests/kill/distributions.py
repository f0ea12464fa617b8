"""Times to dark, as numbers: quantiles, lines and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.kill.trial import DEATHS, HANGS, Result


def quantile(values: Sequence[float], fraction: float) -> float:
    """The smallest value that at least this fraction does not exceed."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def distribution(title: str, values: Sequence[float]) -> str:
    """One line of a distribution in ms."""
    if not values:
        return f"{title}: no trials\n"
    shown = [
        *((f"p{round(100 * q)}", quantile(values, q)) for q in (0.5, 0.9, 0.99)),
        ("worst", max(values)),
    ]
    return f"{title} ({len(values)}): " + ", ".join(f"{name} {1e3 * v:.0f} ms" for name, v in shown) + "\n"


def histogram(values: Sequence[float], bins: int = 12) -> str:
    """The same as bars; the last bin ends at the worst."""
    if not values:
        return ""
    low, width = min(values), max((max(values) - min(values)) / bins, 1e-3)
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / width), bins - 1)] += 1
    return "".join(
        f"    {1e3 * (low + n * width):7.0f} ms {count:4d} {'#' * count}\n" for n, count in enumerate(counts)
    )


def deaths(results: Sequence[Result]) -> list[float]:
    """Death to dark, s; a trial that did not get dark counts as infinite."""
    return [_or_never(r.dark_s) for r in results if r.trial.kind in DEATHS]


def hangs(results: Sequence[Result]) -> list[float]:
    """Hang to dark minus the promised limit, s."""
    return [_or_never(r.dark_s - r.limit_s) for r in results if r.trial.kind in HANGS]


def _or_never(value: float) -> float:
    return math.inf if math.isnan(value) else value
