"""Compiled loops for correlations over many decades of lag: exact edge counting, and bins that widen."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_U = np.uint64


@njit(cache=True, nogil=True)
def count_below_edges(
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    edges: NDArray[np.int64],
    until: NDArray[np.int64],
    next_start: NDArray[np.int64],
    next_stop: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> None:
    """For every edge add, over the starts up to until[k], the number of stops before start + edge.

    stops: ascending, the last one a guard later than any start + edge. next_start, next_stop, sums: int64[K],
    where each edge stands; they move on.
    Source: T. A. Laurence, S. Fore, T. Huser, Opt. Lett. 31, 829 (2006).
    """
    k = 0
    while k + 4 <= edges.size:
        _four_edges(starts, stops, edges, until, next_start, next_stop, sums, k)
        k += 4
    for k in range(edges.size):
        _one_edge(starts, stops, edges, until, next_start, next_stop, sums, k)


@njit(cache=True, nogil=True)
def _one_edge(
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    edges: NDArray[np.int64],
    until: NDArray[np.int64],
    next_start: NDArray[np.int64],
    next_stop: NDArray[np.int64],
    sums: NDArray[np.int64],
    k: int,
) -> None:
    i, p, total = _U(next_start[k]), _U(next_stop[k]), sums[k]
    end, edge = _U(until[k]), edges[k]
    while i < end:
        before = _U(stops[p] < starts[i] + edge)
        p += before
        total += np.int64((_U(1) - before) * p)
        i += _U(1) - before
    next_start[k], next_stop[k], sums[k] = i, p, total


@njit(cache=True, nogil=True)
def _four_edges(
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    edges: NDArray[np.int64],
    until: NDArray[np.int64],
    next_start: NDArray[np.int64],
    next_stop: NDArray[np.int64],
    sums: NDArray[np.int64],
    k: int,
) -> None:
    """Most of the way for edges k..k+3 side by side: each alone would wait for its own last comparison."""
    i0, i1, i2, i3 = (
        _U(next_start[k]),
        _U(next_start[k + 1]),
        _U(next_start[k + 2]),
        _U(next_start[k + 3]),
    )
    p0, p1, p2, p3 = _U(next_stop[k]), _U(next_stop[k + 1]), _U(next_stop[k + 2]), _U(next_stop[k + 3])
    s0, s1, s2, s3 = sums[k], sums[k + 1], sums[k + 2], sums[k + 3]
    e0, e1, e2, e3 = edges[k], edges[k + 1], edges[k + 2], edges[k + 3]
    one = _U(1)
    while True:
        # a step takes one start or one stop: none of the four can pass its last start in that many steps
        steps = min(
            min(until[k] - np.int64(i0), until[k + 1] - np.int64(i1)),
            min(until[k + 2] - np.int64(i2), until[k + 3] - np.int64(i3)),
        )
        if steps < 16:
            break
        for _ in range(steps):
            b0 = _U(stops[p0] < starts[i0] + e0)
            b1 = _U(stops[p1] < starts[i1] + e1)
            b2 = _U(stops[p2] < starts[i2] + e2)
            b3 = _U(stops[p3] < starts[i3] + e3)
            p0 += b0
            p1 += b1
            p2 += b2
            p3 += b3
            s0 += np.int64((one - b0) * p0)
            s1 += np.int64((one - b1) * p1)
            s2 += np.int64((one - b2) * p2)
            s3 += np.int64((one - b3) * p3)
            i0 += one - b0
            i1 += one - b1
            i2 += one - b2
            i3 += one - b3
    next_start[k], next_start[k + 1], next_start[k + 2], next_start[k + 3] = i0, i1, i2, i3
    next_stop[k], next_stop[k + 1], next_stop[k + 2], next_stop[k + 3] = p0, p1, p2, p3
    sums[k], sums[k + 1], sums[k + 2], sums[k + 3] = s0, s1, s2, s3


@njit(cache=True, nogil=True)
def add_products(
    a: NDArray[np.int32], b: NDArray[np.int32], first: int, lowest: int, n_lags: int, sums: NDArray[np.int64]
) -> None:
    """Add to sums[k] the products a[i - k] * b[i] over i in [first, b.size), for lowest <= k < n_lags."""
    for k in range(lowest, n_lags):
        begin = max(first, k)
        early, late = a[begin - k : a.size - k], b[begin:]
        total = np.int64(0)
        for i in range(late.size):
            total += np.int64(early[i]) * np.int64(late[i])
        sums[k] += total


@njit(cache=True, nogil=True)
def count_code_in_bins(
    times: NDArray[np.int64],
    codes: NDArray[np.int32],
    code: int,
    begin: int,
    width: int,
    counts: NDArray[np.int32],
) -> None:
    """Add the times with this code, which must lie in the bins, to their bins of `width` from `begin` on."""
    upper = _U(width)
    for i in range(times.size):
        counts[_U(times[i] - begin) // upper] += np.int32(codes[i] == code)


@njit(cache=True, nogil=True)
def join_bins(bins: NDArray[np.int32], number: int) -> NDArray[np.int32]:
    """int32[rows, number]: neighbouring bins of each row added in pairs."""
    joined = np.empty((bins.shape[0], number), np.int32)
    for row in range(bins.shape[0]):
        for i in range(number):
            joined[row, i] = bins[row, 2 * i] + bins[row, 2 * i + 1]
    return joined
