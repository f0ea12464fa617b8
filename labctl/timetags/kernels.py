"""Compiled inner loops over tags: integer arithmetic only, one pass, no allocation.

Indices are cast to unsigned where the loop is hot: it spares the compiler the check for negative indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def count_pulse_pairs(
    pulses: NDArray[np.int64],
    on_a: NDArray[np.bool_],
    on_b: NDArray[np.bool_],
    first: int,
    period: int,
    lags: int,
    counts: NDArray[np.int64],
) -> None:
    """Add pairs of photons, the later in [first, n), by pulse-number difference b minus a up to +-lags.

    pulses: ascending times of the photons' pulses in the unit of `period`. A photon never pairs with itself.
    """
    for i in range(first, pulses.size):
        for j in range(i - 1, -1, -1):
            difference = (2 * (pulses[i] - pulses[j]) + period) // (2 * period)
            if difference > lags:
                break
            if on_b[i] and on_a[j]:
                counts[lags + difference] += 1
            if on_a[i] and on_b[j]:
                counts[lags - difference] += 1


@njit(cache=True, nogil=True)
def count_in_bins(times: NDArray[np.int64], begin: int, width: int, counts: NDArray[Any]) -> None:
    """Add each time, which must lie in the bins, to its bin of `width` from `begin` on."""
    upper = np.uint64(width)
    for i in range(times.size):
        counts[np.uint64(times[i] - begin) // upper] += 1


@njit(cache=True, nogil=True)
def positions_after(sorted_times: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the sorted times are at or before each of `times`, which ascend too: int64[n]."""
    positions = np.empty(times.size, np.int64)
    position = 0
    for i in range(times.size):
        while position < sorted_times.size and sorted_times[position] <= times[i]:
            position += 1
        positions[i] = position
    return positions
