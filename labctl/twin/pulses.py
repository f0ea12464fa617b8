"""When laser pulses happen: pulse number to time and back, with a jitter that belongs to the pulse.

The jitter of a pulse is a hash of seed and nominal time. Emitter, MIR kick and sync tag therefore agree on
it without telling each other, and a pulse that nobody looks at costs nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

from labctl.twin.config import WorldConfig
from labctl.twin.knobs import PulseTrain, WorldError

FAR_PS = 1 << 62
FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
_NORMAL = ndtri((np.arange(4096) + 0.5) / 4096)

Pulses = Any
"""The numbers of one train for the kernels: (base, period, count, cycle, total, jitter key, sigmas)."""


def pulses_of(train: PulseTrain | None, config: WorldConfig, key: int) -> Pulses:
    """Times at the sample of the pulses of a train; WorldError when its bursts run into one another."""
    vis = config.visible
    sigmas = (
        vis.pulse_jitter_s * 1e12,
        vis.pulse_fwhm_s * 1e12 / FWHM_PER_SIGMA,
        config.detection.tagger_jitter_s * 1e12,
    )
    if train is None:
        return (0, FAR_PS, FAR_PS, FAR_PS, 0, key, *sigmas)
    base = train.start_ps + train.offset_ps + vis.trigger_latency_ps
    if train.source == "internal":
        return (base, train.period_ps, FAR_PS, FAR_PS, train.count or FAR_PS, key, *sigmas)
    count = train.count or 0
    end_ps = train.offset_ps + (count - 1) * train.period_ps
    if end_ps >= config.mir.period_ps:
        raise WorldError(
            f"the burst of {count} pulses ends {end_ps} ps after its trigger, behind the next trigger at "
            f"{config.mir.period_ps} ps: use fewer pulses or a smaller delay"
        )
    base = train.offset_ps + vis.trigger_latency_ps
    return (base, train.period_ps, count, config.mir.period_ps, FAR_PS, key, *sigmas)


@njit(cache=True, nogil=True, inline="always")
def hashed(key: int, number: int) -> np.uint64:
    """64 well-mixed bits (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    z = np.uint64(key) ^ (np.uint64(number) * np.uint64(0x9E3779B97F4A7C15))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def normal_field(bits: np.uint64, field: int) -> float:
    """One of five standard normal numbers (to 1/4096 of probability) that 64 hashed bits hold."""
    return _NORMAL[(bits >> np.uint64(12 * field)) & np.uint64(4095)]


@njit(cache=True, nogil=True, inline="always")
def nominal(number: int, p: Pulses) -> int:
    """Time at the sample without jitter; `FAR_PS` behind the end of the train."""
    if number >= p[4]:
        return FAR_PS
    if p[2] == FAR_PS:
        # a product of this size would not fit 64 bits
        if float(number) * p[1] > 4.0e18:
            return FAR_PS
        return p[0] + number * p[1]
    cycle = number // p[2]
    return p[0] + cycle * p[3] + (number - cycle * p[2]) * p[1]


@njit(cache=True, nogil=True)
def first_number(time_ps: int, p: Pulses) -> int:
    """Number of the first pulse with nominal time at or after `time_ps`."""
    since = time_ps - p[0]
    if since <= 0:
        return 0
    if p[2] == FAR_PS:
        return -(-since // p[1])
    cycle = since // p[3]
    inside = -(-(since - cycle * p[3]) // p[1])
    return cycle * p[2] + min(inside, p[2])


@njit(cache=True, nogil=True, inline="always")
def excitation(number: int, p: Pulses) -> int:
    """Instant at which this pulse excites the dot: trigger jitter and a random point of the pulse's shape."""
    time_ps = nominal(number, p)
    if time_ps == FAR_PS:
        return time_ps
    bits = hashed(p[5], time_ps)
    return time_ps + round(p[6] * normal_field(bits, 0) + p[7] * normal_field(bits, 1))


@njit(cache=True, nogil=True, inline="always")
def sync_edge(number: int, p: Pulses, delay_ps: int) -> int:
    """Tag of this pulse's sync: the laser's trigger jitter and the tagger's, not the pulse's shape."""
    time_ps = nominal(number, p)
    if time_ps == FAR_PS:
        return time_ps
    bits = hashed(p[5], time_ps)
    return time_ps + delay_ps + round(p[6] * normal_field(bits, 0) + p[8] * normal_field(bits, 2))


@njit(cache=True, nogil=True)
def first_excitation(time_ps: int, p: Pulses) -> int:
    """Number of the first pulse that excites at or after `time_ps`."""
    number = first_number(time_ps - 1000, p)
    while number < p[4] and excitation(number, p) < time_ps:
        number += 1
    return number


@njit(cache=True, nogil=True)
def all_syncs(p: Pulses, low: int, high: int, delay_ps: int, begin_ps: int, end_ps: int) -> NDArray[np.int64]:
    """Sync tags in `[begin_ps, end_ps)` of the pulses `low <= number < high`."""
    out = np.empty(max(high - low, 0), np.int64)
    n = 0
    for number in range(low, high):
        tag = sync_edge(number, p, delay_ps)
        if begin_ps <= tag < end_ps:
            out[n] = tag
            n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def filtered_syncs(
    p: Pulses,
    low: int,
    high: int,
    delay_ps: int,
    begin_ps: int,
    end_ps: int,
    photons: NDArray[np.int64],
    done: int,
    armed: int,
) -> tuple[NDArray[np.int64], int, int]:
    """Of the sync tags in `[begin_ps, end_ps)` the first one after each photon.

    photons: sorted tags of the trigger channels, those before `done` are dealt with; armed: time of the
    photon that still waits for its sync, -1 if none. Returns (tags, done, armed).
    """
    out = np.empty(photons.size - done + 1, np.int64)
    n = 0
    while True:
        if armed < 0:
            if done == photons.size:
                break
            armed = photons[done]
            done += 1
        number = max(low, first_number(max(armed + 1, begin_ps) - delay_ps - 1000, p))
        while number < high and sync_edge(number, p, delay_ps) <= max(armed, begin_ps - 1):
            number += 1
        tag = sync_edge(number, p, delay_ps) if number < high else FAR_PS
        if tag >= end_ps:
            break
        out[n] = tag
        n += 1
        armed = -1
        while done < photons.size and photons[done] < tag:
            done += 1
    return out[:n], done, armed
