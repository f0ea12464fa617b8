"""The dot under CW light: a jump process between 0, 1 and 2 excitons, exact in its order and its times.

Excitons that decay unseen are skipped together; only where a kick or a change of charge falls among them
are they looked at one by one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.random import Generator

from labctl.twin.emission_state import (
    CHARGED,
    EMPTY_FOR,
    FLIP_AT,
    KICK_AT,
    LEVEL,
    NEXT_AT,
    ROOM,
    SEE_1,
    SEE_2,
    SINCE,
    SKIPPED,
    TAU_1,
    TAU_2,
    Floats,
    Ints,
    Params,
    gap,
    later,
    seen,
)
from labctl.twin.pulses import FAR_PS, Pulses


@njit(cache=True, nogil=True, inline="always")
def _draw_jump(rng: Generator, s: Ints, now_ps: int, table: Floats, q: Params) -> None:
    """When the number of excitons changes next under the CW pump.

    From the empty dot, excitons that decay unseen are skipped: their number is geometric and, since dwell
    times do not depend on where a jump leads, the time that they take is the sum of two Gamma variables.
    """
    level, row = s[LEVEL], table[s[CHARGED]]
    if level == 2:
        s[NEXT_AT] = now_ps + later(rng, row[TAU_2])
    elif level == 1:
        s[NEXT_AT] = now_ps + later(rng, 1.0 / (q[11] + 1.0 / row[TAU_1]))
    elif q[11] > 0.0:
        decay = 1.0 / row[TAU_1]
        unseen = decay * (1.0 - row[SEE_1]) / (q[11] + decay)
        skipped = gap(rng, math.log(unseen)) if unseen > 0.0 else 0
        empty_ps = rng.standard_gamma(skipped + 1.0) / q[11]
        s[SINCE], s[SKIPPED] = now_ps, skipped
        s[EMPTY_FOR] = int(min(empty_ps, 1.0e18) + 0.5)
        s[NEXT_AT] = now_ps + s[EMPTY_FOR] + int(rng.standard_gamma(skipped + 1.0) / (q[11] + decay) + 0.5)
    else:
        s[NEXT_AT] = FAR_PS


@njit(cache=True, nogil=True)
def _look(rng: Generator, s: Ints, now_ps: int) -> None:
    """Find out whether one of the skipped excitons is there now: divide the two sums into their parts."""
    if s[LEVEL] != 0 or s[NEXT_AT] == FAR_PS:
        return
    empty, full = np.empty(s[SKIPPED] + 1), np.empty(s[SKIPPED] + 1)
    for i in range(empty.size):
        empty[i], full[i] = rng.standard_exponential(), rng.standard_exponential()
    empty *= s[EMPTY_FOR] / empty.sum()
    full *= (s[NEXT_AT] - s[SINCE] - s[EMPTY_FOR]) / full.sum()
    left = float(now_ps - s[SINCE])
    for i in range(empty.size):
        left -= empty[i]
        if left < 0.0:
            return
        left -= full[i]
        if left < 0.0:
            s[LEVEL] = 1
            return


@njit(cache=True, nogil=True)
def start_cw(rng: Generator, s: Ints, now_ps: int, table: Floats, p: Pulses, q: Params) -> None:
    """Draw the pending events of a new segment."""
    s[FLIP_AT] = now_ps + later(rng, 1.0 / q[3]) if s[CHARGED] and q[3] > 0.0 else FAR_PS
    _draw_jump(rng, s, now_ps, table, q)


@njit(cache=True, nogil=True, inline="always")
def _jump(rng: Generator, s: Ints, table: Floats, q: Params, out: Ints, n: int) -> int:
    """The next photon or biexciton of an exciton, or the end of a biexciton."""
    row, time_ps = table[s[CHARGED]], s[NEXT_AT]
    if s[LEVEL] == 2:
        s[LEVEL] = 1
        shines = rng.random() < row[SEE_2]
    else:
        # an exciton of the empty dot is by now known not to decay unseen
        decay = (1.0 if s[LEVEL] else row[SEE_1]) / row[TAU_1]
        u = rng.random() * (q[11] + decay)
        if u >= decay:
            s[LEVEL] = 2
            return n
        s[LEVEL] = 0
        shines = u < row[SEE_1] / row[TAU_1]
    if shines:
        out[n] = seen(rng, time_ps, q)
        return n + 1
    return n


@njit(cache=True, nogil=True)
def run_cw(
    rng: Generator,
    s: Ints,
    end_ps: int,
    table: Floats,
    p: Pulses,
    q: Params,
    out: Ints,
    flips: Ints,
) -> tuple[int, int, bool]:
    """All events before `end_ps` under CW light or in the dark; returns as `run_pulsed`."""
    n, m = 0, 0
    while n < out.size - ROOM and m < flips.size - 1:
        jump_ps, flip_ps, kick_ps = s[NEXT_AT], s[FLIP_AT], s[KICK_AT]
        now_ps = min(jump_ps, min(flip_ps, kick_ps))
        if now_ps >= end_ps:
            return n, m, True
        was = s[CHARGED]
        if flip_ps == now_ps:
            _look(rng, s, now_ps)
            s[CHARGED] = 0
        elif jump_ps == now_ps:
            rising = s[LEVEL] < 2
            n = _jump(rng, s, table, q, out, n)
            if rising and s[LEVEL] == 2 and not was and rng.random() < q[12]:
                # one of the two holes is ejected: a trion is left
                s[CHARGED], s[LEVEL] = 1, 1
        else:
            s[KICK_AT] = kick_ps + q[6]
            luck = rng.random()
            if luck < (q[4] if was else q[5]):
                _look(rng, s, now_ps)
                if was:
                    s[CHARGED] = 0
                elif s[LEVEL] > 0:
                    s[CHARGED], s[LEVEL] = 1, 0
                else:
                    # nothing happens, but the skipped excitons have been looked at
                    _draw_jump(rng, s, now_ps, table, q)
        if s[CHARGED] != was:
            flips[m] = now_ps
            m += 1
            start_cw(rng, s, now_ps, table, p, q)
        elif jump_ps == now_ps:
            _draw_jump(rng, s, now_ps, table, q)
    return n, m, False
