"""The definition of a correlation histogram in plain numpy: slow, and the judge of the fast kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def correlate_reference(
    times_ps: NDArray[np.int64],
    channels: NDArray[np.int32],
    a: int,
    b: int,
    window_ps: int = 100_000,
    bin_ps: int = 1_000,
) -> NDArray[np.int64]:
    """Same counts as `labctl.timetags.correlate`, by binary search (int64[2 * window_ps // bin_ps])."""
    starts, stops = times_ps[channels == a], times_ps[channels == b]
    first = np.searchsorted(stops, starts - window_ps, side="left")
    number = np.searchsorted(stops, starts + window_ps, side="left") - first
    start_of = np.repeat(np.arange(starts.size), number)
    within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    lags = stops[first[start_of] + within] - starts[start_of]
    half = window_ps // bin_ps
    counts = np.bincount(lags // bin_ps + half, minlength=2 * half).astype(np.int64)
    if a == b:
        counts[half] -= starts.size
    return counts
