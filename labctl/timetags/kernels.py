"""Compiled inner loops over tags: integer arithmetic only, one pass, no allocation.

Indices are cast to unsigned where the loop is hot: it spares the compiler the check for negative indices.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

SHIFT = 42


@njit(cache=True, nogil=True)
def append_selected(
    times: NDArray[np.int64],
    channels: NDArray[np.int32],
    lookup: NDArray[np.uint8],
    lowest: int,
    kept_times: NDArray[np.int64],
    kept_index: NDArray[np.uint8],
    kept: int,
) -> int:
    """Append tags whose channel has an index in `lookup` (255: none); returns the new number kept."""
    span = lookup.size
    for i in range(times.size):
        offset = np.int64(channels[i]) - lowest
        if offset < 0 or offset >= span:
            continue
        index = lookup[np.uint64(offset)]
        kept_times[np.uint64(kept)] = times[i]
        kept_index[np.uint64(kept)] = index
        kept += index != 255
    return kept


@njit(cache=True, nogil=True)
def scan_pairs(
    times: NDArray[np.int64],
    index: NDArray[np.uint8],
    first: int,
    stop: int,
    window: int,
    width: int,
    multiplier: int,
    n_channels: int,
    n_bins: int,
    lags: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> None:
    """Count, for every tag in [first, stop), the distances 0 <= d <= window to all earlier tags.

    lags, edges: int64[n_channels * n_channels * n_bins], indexed [later, earlier, d // width]; `edges`
    counts only d that are exact multiples of width, so that half-open bins of negative lags follow exactly.
    multiplier: (1 << SHIFT) // width + 1 where multiply-and-shift is exact, 0 where it is not.
    """
    for i in range(first, stop):
        now = times[np.uint64(i)]
        row = np.int64(index[np.uint64(i)]) * n_channels
        j = i - 1
        while j >= 0:
            distance = now - times[np.uint64(j)]
            if distance > window:
                break
            if multiplier:
                k = (distance * multiplier) >> SHIFT
            else:
                k = distance // width
            cell = np.uint64((row + np.int64(index[np.uint64(j)])) * n_bins + k)
            lags[cell] += 1
            if distance == k * width:
                edges[cell] += 1
            j -= 1


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
