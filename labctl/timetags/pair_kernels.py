"""Compiled loops that meet every pair of neighbouring tags: exact integers, no branch that depends on light.

Pairs are taken by rank: first every tag with its predecessor, then with the one before that, and so on. In
sorted tags the distance grows with the rank, so the tags that still have a partner within the window only
become fewer. Both the list of these tags and, while nearly all have a partner, whole vectors of distances are
made without conditional jumps, which random light would make unpredictable and dear. Indices are unsigned
where a loop is hot: it spares the check for negative ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

SHIFT = 42
_U = np.uint64
_SLICE = 1 << 13  # tags gathered at a time: they are still in the cache when their pairs are met
_RUN = 512  # tags whose pairs are met together: their times and cells stay in the first-level cache


@njit(cache=True, nogil=True)
def is_ascending(times: NDArray[np.int64]) -> bool:
    """Whether no time is before its predecessor."""
    backwards = 0
    for i in range(1, times.size):
        backwards += times[i] < times[i - 1]
    return backwards == 0


@njit(cache=True, nogil=True)
def feed_pairs(
    times: NDArray[np.int64],
    channels: NDArray[np.int32],
    lookup: NDArray[np.int32],
    lowest: int,
    window: int,
    width: int,
    multiplier: int,
    kept_times: NDArray[np.int64],
    kept_codes: NDArray[np.int32],
    stop: int,
    singles: NDArray[np.int64],
    cells: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """Count the pairs that new tags form among themselves and with the tags carried over.

    kept_times, kept_codes: tags [1, stop) are carried over from before; place 0 is the guard of `scan_pairs`.
    singles: int64[number of channels], tags by channel, in the order of the codes.
    Returns the arrays that now carry tags, longer ones where these became too short, and the new stop.
    """
    per_pair = (cells.size - 1) // singles.size**2
    for first in range(0, times.size, _SLICE):
        last = min(first + _SLICE, times.size)
        # one spare place: a tag is written before it is known whether it is kept
        if stop + last - first >= kept_times.size:
            kept_times, kept_codes = _longer(kept_times, kept_codes, stop, 2 * (stop + _SLICE))
        begin = stop
        stop = append_selected(
            times[first:last], channels[first:last], lookup, lowest, kept_times, kept_codes, stop
        )
        for position in range(singles.size):
            singles[position] += _count_equal(kept_codes[begin:stop], position * per_pair)
        kept_times[0] = kept_times[1] - window - 1
        scan_pairs(kept_times, kept_codes, begin, stop, window, width, multiplier, singles.size, cells)
        stop = _drop_old(kept_times, kept_codes, stop, _U(times[last - 1]), _U(window))
    return kept_times, kept_codes, stop


@njit(cache=True, nogil=True)
def append_selected(
    times: NDArray[np.int64],
    channels: NDArray[np.int32],
    lookup: NDArray[np.int32],
    lowest: int,
    kept_times: NDArray[np.int64],
    codes: NDArray[np.int32],
    stop: int,
) -> int:
    """Append tags and what `lookup` says of their channel, -1 meaning that it is left out.

    lookup: int32[span + 1] by channel - lowest; the last entry is -1 and stands for all channels beyond.
    kept_times, codes need one place more than there are tags. Returns the new end of the list.
    """
    beyond = _U(lookup.size - 1)
    new_times, new_codes = kept_times[stop : stop + times.size], codes[stop : stop + times.size]
    left_out = 0
    for i in range(times.size):
        code = lookup[min(_U(np.int64(channels[i]) - lowest), beyond)]
        new_codes[i] = code
        left_out += code < 0
    if left_out == 0:
        for i in range(times.size):
            new_times[i] = times[i]
        return stop + times.size
    place: Any = _U(0)
    for i in range(times.size):
        code = new_codes[i]
        new_times[place] = times[i]
        new_codes[place] = code
        place += _U(code >= 0)
    return int(stop + np.int64(place))


@njit(cache=True, nogil=True)
def _count_equal(codes: NDArray[np.int32], code: int) -> int:
    number = np.int32(0)
    for i in range(codes.size):
        number += np.int32(codes[i] == np.int32(code))
    return int(np.int64(number))


@njit(cache=True, nogil=True)
def _longer(
    times: NDArray[np.int64], codes: NDArray[np.int32], stop: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    more_times, more_codes = np.empty(size, np.int64), np.empty(size, np.int32)
    for i in range(stop):
        more_times[i], more_codes[i] = times[i], codes[i]
    return more_times, more_codes


@njit(cache=True, nogil=True)
def _drop_old(times: NDArray[np.int64], codes: NDArray[np.int32], stop: int, now: Any, window: Any) -> int:
    """Keep the tags at most `window` before `now` from place 1 on; returns the new end."""
    oldest = stop
    while oldest > 1 and _U(now - _U(times[oldest - 1])) <= window:
        oldest -= 1
    for i in range(oldest, stop):
        times[1 + i - oldest], codes[1 + i - oldest] = times[i], codes[i]
    return 1 + stop - oldest


@njit(cache=True, nogil=True)
def scan_pairs(
    times: NDArray[np.int64],
    codes: NDArray[np.int32],
    first: int,
    stop: int,
    window: int,
    width: int,
    multiplier: int,
    n_channels: int,
    cells: NDArray[np.int64],
) -> None:
    """Count, for every tag in [first, stop), the distances 0 <= d <= window to all earlier tags.

    times: index 0 is a guard more than `window` before the tag at index 1, the rest ascend. codes: position
    of the channel times the number of cells per channel pair. The cell of a pair is
    codes[later] * n_channels + codes[earlier] + (2 * (d // width), plus 1 where d is no multiple of width).
    cells: the last one takes no pair. multiplier: (1 << SHIFT) // width + 1 where multiply-and-shift is exact
    up to the window, 0 where it is not.
    """
    pending = np.empty(_RUN + 1, np.uint32)
    for begin in range(first, stop, _RUN):
        end = min(begin + _RUN, stop)
        rank = 1
        number = _list_pending(times, begin, end, rank, window, pending)
        # vectors of all tags are quicker than a list of most of them
        if multiplier and 3 * number >= 2 * (end - begin):
            rank = _count_full_ranks(times, codes, begin, end, window, width, multiplier, n_channels, cells)
            number = _list_pending(times, begin, end, rank, window, pending)
        while number:
            number = _count_pending(
                times, codes, rank, window, width, multiplier, n_channels, pending, number, cells
            )
            rank += 1


@njit(cache=True, nogil=True)
def _count_full_ranks(
    times: NDArray[np.int64],
    codes: NDArray[np.int32],
    begin: int,
    end: int,
    window: int,
    width: int,
    multiplier: int,
    n_channels: int,
    cells: NDArray[np.int64],
) -> int:
    """Count all pairs of the ranks at which most tags of [begin, end) have one; returns the next rank."""
    places = np.empty(_RUN, np.int32)
    rank = 1
    while rank <= begin:
        inside = _place_pairs(
            times[begin:end],
            times[begin - rank : end - rank],
            codes[begin:end],
            codes[begin - rank : end - rank],
            window,
            width,
            multiplier,
            n_channels,
            cells.size,
            places,
        )
        if 3 * inside < 2 * (end - begin):
            break
        for p in range(end - begin):
            cells[_U(places[p])] += 1
        rank += 1
    return rank


@njit(cache=True, nogil=True)
def _list_pending(
    times: NDArray[np.int64], begin: int, end: int, rank: int, window: int, pending: NDArray[np.uint32]
) -> int:
    """List the tags of [begin, end) that have a partner `rank` places before them within the window."""
    number: Any = _U(0)
    back, limit = _U(rank), _U(window)
    for i in range(_U(max(begin, rank)), _U(end)):
        pending[number] = i
        number += _U(_U(times[i] - times[i - back]) <= limit)
    return int(np.int64(number))


@njit(cache=True, nogil=True)
def _place_pairs(
    later: NDArray[np.int64],
    earlier: NDArray[np.int64],
    later_codes: NDArray[np.int32],
    earlier_codes: NDArray[np.int32],
    window: int,
    width: int,
    multiplier: int,
    n_channels: int,
    n_cells: int,
    places: NDArray[np.int32],
) -> int:
    """The cell of each pair, the last one where it is outside the window; returns how many are inside."""
    channels, nowhere, limit = np.int32(n_channels), np.int32(n_cells - 1), _U(window)
    inside: Any = 0
    for p in range(later.size):
        distance = later[p] - earlier[p]
        quotient = (distance * multiplier) >> SHIFT
        place = later_codes[p] * channels + earlier_codes[p]
        place += np.int32(2 * quotient) + np.int32(quotient * width != distance)
        fits = _U(distance) <= limit
        places[p] = np.int32(place) if fits else nowhere
        inside += fits
    return inside


@njit(cache=True, nogil=True)
def _count_pending(
    times: NDArray[np.int64],
    codes: NDArray[np.int32],
    rank: int,
    window: int,
    width: int,
    multiplier: int,
    n_channels: int,
    pending: NDArray[np.uint32],
    number: int,
    cells: NDArray[np.int64],
) -> int:
    """Count the listed tags with their partners; keep those in the list that have one of the next rank."""
    kept: Any = _U(0)
    back, limit = _U(rank), _U(window)
    for p in range(_U(number)):
        i = _U(pending[p])
        j = i - back
        distance = times[i] - times[j]
        quotient = (distance * multiplier) >> SHIFT if multiplier else distance // width
        place = np.int64(codes[i]) * n_channels + np.int64(codes[j]) + 2 * quotient
        cells[_U(place + np.int64(quotient * width != distance))] += 1
        pending[kept] = i
        kept += _U(_U(times[i] - times[j - _U(1)]) <= limit)
    return int(np.int64(kept))
