"""What the two ways of exciting the dot share: the layout of its state, and single random draws.

The state is an integer array so that compiled code can stop at any event and resume there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from labctl.twin.pulses import FAR_PS

# slots of the integer state
(
    CHARGED,
    LEVEL,
    FLIP_AT,
    NUMBER,
    NEXT_AT,
    PLAYING,
    KICK_AT,
    ALIVE,
    DISCHARGES,
    IONISES,
    SINCE,
    EMPTY_FOR,
    SKIPPED,
) = range(13)
# a kick sees excitons of the last 25 lifetimes
MEMORY_LIFETIMES = 25
# columns of the table of the two charge states
ANY, ONE, ONLY_LOWER, ONLY_UPPER, LOG_MISS, TAU_1, TAU_2, SEE_1, SEE_2 = range(9)
# room in the output that a single event may need
ROOM = 8

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Params = Any
"""Numbers for the kernels: (p_single, p_none, charging, neutralisation rate per ps, p_d, p_i, kick period,
memory, latency, detector sigma, splitter ratio, pump per ps, charging per biexciton)."""


@njit(cache=True, nogil=True, inline="always")
def later(rng: Generator, mean_ps: float) -> int:
    """An exponential waiting time, rounded to 1 ps."""
    return int(min(rng.standard_exponential() * mean_ps, 1.0e18) + 0.5)


@njit(cache=True, nogil=True, inline="always")
def gap(rng: Generator, log_miss: float) -> int:
    """Number of pulses without success before the next one with it (geometric)."""
    if log_miss >= 0.0:
        return FAR_PS >> 1
    return int(min(rng.standard_exponential() / -log_miss, 2.0e18))


@njit(cache=True, nogil=True, inline="always")
def seen(rng: Generator, time_ps: int, q: Params) -> int:
    """A detected photon as `2 * arrival + detector`: it arrives, with jitter, at exactly one detector."""
    arrival = time_ps + q[8] + round(q[9] * rng.standard_normal())
    return 2 * arrival + (0 if rng.random() < q[10] else 1)
