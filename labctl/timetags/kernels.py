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
def split_syncs(
    times: NDArray[np.int64], codes: NDArray[np.int32], sync_code: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Photons (times, codes), syncs, and for each photon the number of syncs at or before it."""
    n = times.size
    photons, photon_codes = np.empty(n, np.int64), np.empty(n, np.int32)
    syncs, before = np.empty(n, np.int64), np.empty(n, np.int64)
    n_photons, n_syncs = 0, 0
    for i in range(n):
        if codes[i] == sync_code:
            # a photon of the same time that came first in the file is not before it
            k = n_photons - 1
            while k >= 0 and photons[k] == times[i]:
                before[k] += 1
                k -= 1
            syncs[n_syncs] = times[i]
            n_syncs += 1
        else:
            photons[n_photons], photon_codes[n_photons] = times[i], codes[i]
            before[n_photons] = n_syncs
            n_photons += 1
    return photons[:n_photons], photon_codes[:n_photons], syncs[:n_syncs], before[:n_photons]


@njit(cache=True, nogil=True)
def assign_pulses(
    times: NDArray[np.int64],
    codes: NDArray[np.int32],
    syncs: NDArray[np.int64],
    position: NDArray[np.int64],
    reach: int,
    ahead: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Codes, pulse times and micro-times of the photons whose sync exists and is within half of `reach`.

    position: index of each photon's sync, outside `syncs` where there is none. ahead: from pulse to sync.
    """
    kept_codes = np.empty(times.size, np.int32)
    pulses, micro = np.empty(times.size, np.int64), np.empty(times.size, np.int64)
    kept = 0
    for i in range(times.size):
        if position[i] < 0 or position[i] >= syncs.size:
            continue
        sync = syncs[position[i]]
        if 2 * abs(sync - times[i]) > reach:
            continue
        kept_codes[kept] = codes[i]
        pulses[kept] = sync - ahead
        micro[kept] = times[i] - sync + ahead
        kept += 1
    return kept_codes[:kept], pulses[:kept], micro[:kept]
