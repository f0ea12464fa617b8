"""Compiled loops over whole streams: merging two of them, finding coincidences, counting groups."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def merge_sorted(
    times_a: NDArray[np.int64],
    channels_a: NDArray[np.int32],
    times_b: NDArray[np.int64],
    channels_b: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Two ascending streams as one; of simultaneous tags those of the first stream come first."""
    n, m = times_a.size, times_b.size
    times, channels = np.empty(n + m, np.int64), np.empty(n + m, np.int32)
    i, j = 0, 0
    for k in range(n + m):
        if j == m or (i < n and times_a[i] <= times_b[j]):
            times[k], channels[k] = times_a[i], channels_a[i]
            i += 1
        else:
            times[k], channels[k] = times_b[j], channels_b[j]
            j += 1
    return times, channels


@njit(cache=True, nogil=True)
def find_coincidences(
    times: NDArray[np.int64],
    index: NDArray[np.int32],
    window: int,
    latest: NDArray[np.int64],
    seen: NDArray[np.bool_],
    found: NDArray[np.int64],
) -> int:
    """Times at which the last missing channel of a coincidence arrives; returns how many there are.

    index: position of each tag's channel in `latest`. latest, seen: time of each channel's last unused tag,
    and whether it has one; both go on from call to call. found: int64[n].
    """
    number = 0
    for i in range(times.size):
        latest[index[i]], seen[index[i]] = times[i], True
        complete = True
        for k in range(seen.size):
            complete = complete and seen[k] and times[i] - latest[k] <= window
        if complete:
            found[number] = times[i]
            number += 1
            seen[:] = False
    return number


@njit(cache=True, nogil=True)
def count_groups(
    times: NDArray[np.int64],
    index: NDArray[np.int32],
    window: int,
    begin: int,
    pattern: int,
    counts: NDArray[np.int64],
) -> tuple[int, int]:
    """Count groups of tags by the set of channels in them; returns begin and pattern of the open group.

    A group begins with the first tag after the last group and takes all tags up to `window` after it.
    pattern: bit k for the channel of index k, 0 when no group is open.
    """
    for i in range(times.size):
        if pattern and times[i] - begin > window:
            counts[pattern] += 1
            pattern = 0
        if pattern == 0:
            begin = times[i]
        pattern |= 1 << index[i]
    return begin, pattern
