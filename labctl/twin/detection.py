"""Two SPADs behind the beam splitter: dark counts, dead time, after-pulses and flashes, in time order.

A detector sees one sequence of arrivals. Whatever falls into the dead time after a click is lost (the dead
time is not extended by it); each click may cause an after-pulse behind its dead time and a flash that the
other detector sees. The tagger's own jitter comes after all that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from labctl.twin.config import DetectionConfig
from labctl.twin.pulses import FAR_PS

QUEUE = 256


@njit(cache=True, nogil=True)
def sort_nearly(values: NDArray[np.int64]) -> None:
    """Insertion sort in place: linear for photons, which are out of order by a few lifetimes at most."""
    for i in range(1, values.size):
        value = values[i]
        j = i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value


@njit(cache=True, nogil=True, inline="always")
def _push(queue: NDArray[np.int64], count: int, item: int) -> int:
    """Insert in descending order, so that the next item is the last one."""
    if count == queue.size:
        return count
    j = count - 1
    while j >= 0 and queue[j] < item:
        queue[j + 1] = queue[j]
        j -= 1
    queue[j + 1] = item
    return count + 1


@njit(cache=True, nogil=True)
def run_detectors(
    rng: Generator,
    arrivals: NDArray[np.int64],
    limit_ps: int,
    busy_until: NDArray[np.int64],
    next_dark: NDArray[np.int64],
    dark_mean_ps: NDArray[np.float64],
    queue: NDArray[np.int64],
    queued: int,
    config: Any,
    skews: NDArray[np.int64],
    last_tag: NDArray[np.int64],
    tags: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> tuple[int, int]:
    """Clicks of all arrivals before `limit_ps`; returns (arrivals used, items queued).

    arrivals, queue: `2 * time + detector`; tags[2, :], counts[2]: the output, appended per detector.
    """
    dead_ps, afterpulse, decay_ps, crosstalk, flash_ps, sigma_ps = config
    used = 0
    room = tags.shape[1]
    while counts[0] < room and counts[1] < room:
        arrival = arrivals[used] if used < arrivals.size else 2 * FAR_PS - 2
        dark = 0 if next_dark[0] <= next_dark[1] else 1
        dark_item = 2 * next_dark[dark] + dark if next_dark[dark] < FAR_PS else 2 * FAR_PS - 1
        secondary = queue[queued - 1] if queued else 2 * FAR_PS - 1
        item = min(arrival, min(dark_item, secondary))
        time_ps, detector = item >> 1, item & 1
        if time_ps >= limit_ps:
            break
        if item == secondary:
            queued -= 1
        elif item == arrival:
            used += 1
        else:
            next_dark[dark] = time_ps + 1 + int(rng.standard_exponential() * dark_mean_ps[dark])
        if time_ps < busy_until[detector]:
            continue
        busy_until[detector] = time_ps + dead_ps
        tag = time_ps + skews[detector] + round(sigma_ps * rng.standard_normal())
        last_tag[detector] = max(tag, last_tag[detector])
        tags[detector, counts[detector]] = last_tag[detector]
        counts[detector] += 1
        if afterpulse > 0.0 and rng.random() < afterpulse:
            late = time_ps + dead_ps + int(rng.standard_exponential() * decay_ps)
            queued = _push(queue, queued, 2 * late + detector)
        if crosstalk > 0.0 and rng.random() < crosstalk:
            queued = _push(queue, queued, 2 * (time_ps + flash_ps) + 1 - detector)
    return used, queued


class DetectorPair:
    """Detectors A (channel 1) and B (channel 2) through time."""

    def __init__(self, config: DetectionConfig, rng: Generator) -> None:
        self._rng = rng
        self._pending = np.empty(0, np.int64)
        self._busy_until = np.full(2, -FAR_PS, np.int64)
        self._last_tag = np.full(2, -FAR_PS, np.int64)
        rates = np.array([config.dark_rate_a_per_s, config.dark_rate_b_per_s])
        with np.errstate(divide="ignore"):
            self._dark_mean_ps = 1e12 / rates
        first = np.minimum(rng.standard_exponential(2) * np.where(rates > 0, self._dark_mean_ps, 0), 4e18)
        self._next_dark = np.where(rates > 0, first.astype(np.int64), FAR_PS)
        self._queue = np.empty(QUEUE, np.int64)
        self._queued = 0
        self._skews = np.array([config.skew_ps[1], config.skew_ps[2]], np.int64)
        self._numbers = (
            config.dead_time_ps,
            config.afterpulse_probability,
            config.afterpulse_decay_s * 1e12,
            config.crosstalk_probability,
            config.crosstalk_delay_ps,
            config.tagger_jitter_s * 1e12,
        )

    def advance(
        self, photons: NDArray[np.int64], limit_ps: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sorted tags of A and B of all clicks before `limit_ps`.

        photons: new arrivals as `2 * arrival_ps + detector`; those at or after the limit are kept.
        """
        waiting = np.concatenate((self._pending, photons)) if self._pending.size else photons
        sort_nearly(waiting)
        parts: list[list[NDArray[np.int64]]] = [[], []]
        counts = np.zeros(2, np.int64)
        room = waiting.size + 1024
        full = True
        while full:
            tags = np.empty((2, room), np.int64)
            counts[:] = 0
            used, self._queued = run_detectors(
                self._rng,
                waiting,
                limit_ps,
                self._busy_until,
                self._next_dark,
                self._dark_mean_ps,
                self._queue,
                self._queued,
                self._numbers,
                self._skews,
                self._last_tag,
                tags,
                counts,
            )
            waiting = waiting[used:]
            full = bool(counts.max() == room)
            for detector in (0, 1):
                parts[detector].append(tags[detector, : counts[detector]])
        self._pending = waiting.copy()
        return np.concatenate(parts[0]), np.concatenate(parts[1])
