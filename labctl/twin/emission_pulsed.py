"""The dot under laser pulses, event by event, with only the pulses that matter.

Far from a MIR pulse the next *detected* pulse is drawn directly, because the outcomes of pulses are
independent. In the last lifetimes before a kick pulses are played one by one, because there it matters
whether an exciton is alive: what the kick does to it decides which photon it still gives.
"""

from __future__ import annotations

import math

from numba import njit
from numpy.random import Generator

from labctl.twin.emission_state import (
    ALIVE,
    ANY,
    CHARGED,
    DISCHARGES,
    FLIP_AT,
    IONISES,
    KICK_AT,
    LOG_MISS,
    NEXT_AT,
    NUMBER,
    ONE,
    ONLY_LOWER,
    ONLY_UPPER,
    PLAYING,
    ROOM,
    SEE_1,
    SEE_2,
    TAU_1,
    TAU_2,
    Floats,
    Ints,
    Params,
    gap,
    later,
    seen,
)
from labctl.twin.pulses import FAR_PS, Pulses, excitation, first_excitation, first_number


@njit(cache=True, nogil=True)
def _draw_flip(rng: Generator, s: Ints, now_ps: int, number: int, p: Pulses, q: Params) -> None:
    """When the charge state changes by itself: charging at a pulse, neutralisation at any time."""
    if s[CHARGED]:
        s[FLIP_AT] = now_ps + later(rng, 1.0 / q[3]) if q[3] > 0.0 else FAR_PS
    elif q[2] > 0.0:
        s[FLIP_AT] = excitation(number + gap(rng, math.log1p(-q[2])), p)
    else:
        s[FLIP_AT] = FAR_PS


@njit(cache=True, nogil=True)
def _aim(rng: Generator, s: Ints, number: int, table: Floats, p: Pulses, q: Params) -> None:
    """From pulse `number` on, find the next pulse that has to be looked at."""
    detected = number + gap(rng, table[s[CHARGED], LOG_MISS])
    s[PLAYING] = 0
    if s[KICK_AT] != FAR_PS:
        first = max(number, first_number(s[KICK_AT] - q[7], p))
        if detected >= first:
            detected = first
            s[PLAYING] = 1
            s[ALIVE] = 0
            luck = rng.random()
            s[DISCHARGES] = 1 if luck < q[4] else 0
            s[IONISES] = 1 if luck < q[5] else 0
    s[NUMBER] = detected
    s[NEXT_AT] = excitation(detected, p)


@njit(cache=True, nogil=True)
def start_pulsed(rng: Generator, s: Ints, now_ps: int, table: Floats, p: Pulses, q: Params) -> None:
    """Draw the pending events of a new segment."""
    number = first_excitation(now_ps, p)
    _draw_flip(rng, s, now_ps, number, p, q)
    _aim(rng, s, number, table, p, q)


@njit(cache=True, nogil=True, inline="always")
def _detected_pulse(rng: Generator, s: Ints, row: Floats, q: Params, out: Ints, n: int) -> int:
    """Photons of a pulse of which at least one is detected."""
    u = rng.random() * row[ANY]
    time_ps = s[NEXT_AT]
    if u < row[ONE]:
        out[n] = seen(rng, time_ps + later(rng, row[TAU_1]), q)
        return n + 1
    upper = time_ps + later(rng, row[TAU_2])
    if u < row[ONLY_LOWER]:
        out[n] = seen(rng, upper + later(rng, row[TAU_1]), q)
        return n + 1
    out[n] = seen(rng, upper, q)
    if u < row[ONLY_UPPER]:
        return n + 1
    out[n + 1] = seen(rng, upper + later(rng, row[TAU_1]), q)
    return n + 2


@njit(cache=True, nogil=True)
def _played_pulse(rng: Generator, s: Ints, table: Floats, q: Params, out: Ints, n: int) -> int:
    """One pulse in full, knowing what the coming kick will do to what it finds."""
    charged = s[CHARGED]
    row = table[charged]
    time_ps, kick_ps = s[NEXT_AT], s[KICK_AT]
    u = rng.random()
    if u < q[1]:
        return n
    lower_from = time_ps
    if u >= q[1] + q[0]:
        lower_from = time_ps + later(rng, row[TAU_2])
        killed = lower_from > kick_ps and not charged and s[IONISES]
        if rng.random() < row[SEE_2] and not killed:
            out[n] = seen(rng, lower_from, q)
            n += 1
    gone = lower_from + later(rng, row[TAU_1])
    if gone > kick_ps:
        s[ALIVE] = 1
        if not charged and s[IONISES]:
            return n
        if charged and s[DISCHARGES]:
            # the trion that loses its extra charge goes on as an exciton
            row = table[0]
            gone = kick_ps + later(rng, row[TAU_1])
    if rng.random() < row[SEE_1]:
        out[n] = seen(rng, gone, q)
        n += 1
    return n


@njit(cache=True, nogil=True)
def run_pulsed(
    rng: Generator,
    s: Ints,
    end_ps: int,
    table: Floats,
    p: Pulses,
    q: Params,
    out: Ints,
    flips: Ints,
) -> tuple[int, int, bool]:
    """All events before `end_ps`; returns (photons, changes of charge, finished)."""
    n, m = 0, 0
    while n < out.size - ROOM and m < flips.size - 1:
        pulse_ps, flip_ps, kick_ps = s[NEXT_AT], s[FLIP_AT], s[KICK_AT]
        if min(pulse_ps, min(flip_ps, kick_ps)) >= end_ps:
            return n, m, True
        if flip_ps <= pulse_ps and flip_ps <= kick_ps:
            s[CHARGED] = 1 - s[CHARGED]
            flips[m] = flip_ps
            m += 1
            number = first_excitation(flip_ps, p)
            _draw_flip(rng, s, flip_ps, number, p, q)
            # once pulses are being played, the coming kick's luck and the excitons alive must stay
            if not s[PLAYING] or number < first_number(kick_ps - q[7], p):
                _aim(rng, s, number, table, p, q)
        elif pulse_ps <= kick_ps:
            if s[PLAYING]:
                n = _played_pulse(rng, s, table, q, out, n)
                s[NUMBER] += 1
                s[NEXT_AT] = excitation(s[NUMBER], p)
            else:
                n = _detected_pulse(rng, s, table[s[CHARGED]], q, out, n)
                _aim(rng, s, s[NUMBER] + 1, table, p, q)
        else:
            hit = s[DISCHARGES] if s[CHARGED] else s[ALIVE] * s[IONISES]
            s[KICK_AT] = kick_ps + q[6]
            if hit:
                s[CHARGED] = 1 - s[CHARGED]
                flips[m] = kick_ps
                m += 1
                _draw_flip(rng, s, kick_ps, s[NUMBER], p, q)
            _aim(rng, s, s[NUMBER], table, p, q)
    return n, m, False
