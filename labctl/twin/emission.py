"""The dot as a source of detected photons: charge state, excitation, cascade and MIR kicks in time order.

Only what matters is computed. Far from a MIR pulse the next *detected* pulse is drawn directly, because the
outcomes of pulses are independent; in the last lifetimes before a kick pulses are played one by one, because
there it matters whether an exciton is alive. Every step draws the next event once and keeps it, so the
photons do not depend on where the caller stops and resumes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray

from labctl.twin.config import WorldConfig
from labctl.twin.optics import Drive
from labctl.twin.pulses import (
    FAR_PS,
    FWHM_PER_SIGMA,
    Pulses,
    excitation,
    first_excitation,
    first_number,
    pulses_of,
)
from labctl.twin.sample import at_least_one, at_least_two, discharge_probability, ionisation_probability

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
def _later(rng: Generator, mean_ps: float) -> int:
    """An exponential waiting time, rounded to 1 ps."""
    return int(rng.standard_exponential() * mean_ps + 0.5)


@njit(cache=True, nogil=True, inline="always")
def _gap(rng: Generator, log_miss: float) -> int:
    """Number of pulses without success before the next one with it (geometric)."""
    if log_miss >= 0.0:
        return FAR_PS >> 1
    return int(min(rng.standard_exponential() / -log_miss, 2.0e18))


@njit(cache=True, nogil=True, inline="always")
def _seen(rng: Generator, time_ps: int, q: Params) -> int:
    """A detected photon as `2 * arrival + detector`: it arrives, with jitter, at exactly one detector."""
    arrival = time_ps + q[8] + round(q[9] * rng.standard_normal())
    return 2 * arrival + (0 if rng.random() < q[10] else 1)


@njit(cache=True, nogil=True)
def _draw_flip(rng: Generator, s: Ints, now_ps: int, number: int, p: Pulses, q: Params) -> None:
    """When the charge state changes by itself: charging at a pulse, neutralisation at any time."""
    if s[CHARGED]:
        s[FLIP_AT] = now_ps + _later(rng, 1.0 / q[3]) if q[3] > 0.0 else FAR_PS
    elif q[2] > 0.0:
        s[FLIP_AT] = excitation(number + _gap(rng, math.log1p(-q[2])), p)
    else:
        s[FLIP_AT] = FAR_PS


@njit(cache=True, nogil=True)
def _aim(rng: Generator, s: Ints, number: int, table: Floats, p: Pulses, q: Params) -> None:
    """From pulse `number` on, find the next pulse that has to be looked at."""
    detected = number + _gap(rng, table[s[CHARGED], LOG_MISS])
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
        out[n] = _seen(rng, time_ps + _later(rng, row[TAU_1]), q)
        return n + 1
    upper = time_ps + _later(rng, row[TAU_2])
    if u < row[ONLY_LOWER]:
        out[n] = _seen(rng, upper + _later(rng, row[TAU_1]), q)
        return n + 1
    out[n] = _seen(rng, upper, q)
    if u < row[ONLY_UPPER]:
        return n + 1
    out[n + 1] = _seen(rng, upper + _later(rng, row[TAU_1]), q)
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
        lower_from = time_ps + _later(rng, row[TAU_2])
        killed = lower_from > kick_ps and not charged and s[IONISES]
        if rng.random() < row[SEE_2] and not killed:
            out[n] = _seen(rng, lower_from, q)
            n += 1
    gone = lower_from + _later(rng, row[TAU_1])
    if gone > kick_ps:
        s[ALIVE] = 1
        if not charged and s[IONISES]:
            return n
        if charged and s[DISCHARGES]:
            # the trion that loses its extra charge goes on as an exciton
            row = table[0]
            gone = kick_ps + _later(rng, row[TAU_1])
    if rng.random() < row[SEE_1]:
        out[n] = _seen(rng, gone, q)
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


@njit(cache=True, nogil=True, inline="always")
def _draw_jump(rng: Generator, s: Ints, now_ps: int, table: Floats, q: Params) -> None:
    """When the number of excitons changes next under the CW pump.

    From the empty dot, excitons that decay unseen are skipped: their number is geometric and, since dwell
    times do not depend on where a jump leads, the time that they take is the sum of two Gamma variables.
    """
    level, row = s[LEVEL], table[s[CHARGED]]
    if level == 2:
        s[NEXT_AT] = now_ps + _later(rng, row[TAU_2])
    elif level == 1:
        s[NEXT_AT] = now_ps + _later(rng, 1.0 / (q[11] + 1.0 / row[TAU_1]))
    elif q[11] > 0.0:
        decay = 1.0 / row[TAU_1]
        unseen = decay * (1.0 - row[SEE_1]) / (q[11] + decay)
        skipped = _gap(rng, math.log(unseen)) if unseen > 0.0 else 0
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
    s[FLIP_AT] = now_ps + _later(rng, 1.0 / q[3]) if s[CHARGED] and q[3] > 0.0 else FAR_PS
    _draw_jump(rng, s, now_ps, table, q)


@njit(cache=True, nogil=True, inline="always")
def _jump(rng: Generator, s: Ints, table: Floats, q: Params, out: Ints, n: int) -> int:
    """The next photon or biexciton of an exciton, or the end of a biexciton."""
    row, time_ps = table[s[CHARGED]], s[NEXT_AT]
    if s[LEVEL] == 2:
        s[LEVEL] = 1
        seen = rng.random() < row[SEE_2]
    else:
        # an exciton of the empty dot is by now known not to decay unseen
        decay = (1.0 if s[LEVEL] else row[SEE_1]) / row[TAU_1]
        u = rng.random() * (q[11] + decay)
        if u >= decay:
            s[LEVEL] = 2
            return n
        s[LEVEL] = 0
        seen = u < row[SEE_1] / row[TAU_1]
    if seen:
        out[n] = _seen(rng, time_ps, q)
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


class Emitter:
    """The dot through time. `advance` gives the photons that will be detected, `switch` changes the light."""

    def __init__(self, config: WorldConfig, key: int) -> None:
        self._config = config
        self._key = key
        self._state = np.zeros(SKIPPED + 1, np.int64)
        self._state[CHARGED] = int(config.dot.initially_charged)
        self._photons = np.empty(65536, np.int64)
        self._flips = np.empty(4096, np.int64)
        self.charged_ps = 0
        self._time_ps = 0
        self._since_ps = 0

    @property
    def charged(self) -> bool:
        """Charge state now."""
        return bool(self._state[CHARGED])

    def charged_time_ps(self) -> int:
        """Time spent charged since world time 0."""
        return self.charged_ps + (self._time_ps - self._since_ps if self.charged else 0)

    def switch(self, now_ps: int, light: Drive, rng: Generator) -> None:
        """Another light from now on. The charge state stays; an exciton in flight is forgotten."""
        self._rng = rng
        pulses = pulses_of(light.train, self._config, self._key)
        self._light = (_table(self._config, light), pulses, _params(self._config, light))
        mir = self._config.mir
        kicks = -(-max(now_ps - mir.arrival_ps, 0) // mir.period_ps)
        self._state[KICK_AT] = kicks * mir.period_ps + mir.arrival_ps if light.mir_field_mv_cm > 0 else FAR_PS
        start: Callable[..., None] = start_pulsed if light.train else start_cw
        self._run: Callable[..., tuple[int, int, bool]] = run_pulsed if light.train else run_cw
        self._state[LEVEL] = 0
        start(rng, self._state, now_ps, *self._light)

    def advance(self, end_ps: int) -> Ints:
        """Photons of all events before `end_ps`, as `2 * arrival_ps + detector`, nearly in time order."""
        parts: list[Ints] = []
        finished = False
        while not finished:
            n, m, finished = self._run(
                self._rng, self._state, end_ps, *self._light, self._photons, self._flips
            )
            parts.append(self._photons[:n].copy())
            self._count_charged(m)
        self._time_ps = end_ps
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _count_charged(self, m: int) -> None:
        charged = self.charged ^ bool(m & 1)
        for time_ps in self._flips[:m].tolist():
            if charged:
                self.charged_ps += time_ps - self._since_ps
            self._since_ps = time_ps
            charged = not charged


def _params(config: WorldConfig, light: Drive) -> Params:
    dot, detection, mean = config.dot, config.detection, light.mean_excitons
    return (
        mean * math.exp(-mean),
        math.exp(-mean),
        dot.charging_per_biexciton * at_least_two(mean),
        dot.neutralisation_rate_per_s * 1e-12,
        discharge_probability(dot, light.mir_field_mv_cm),
        ionisation_probability(dot, light.mir_field_mv_cm),
        config.mir.period_ps,
        int(MEMORY_LIFETIMES * max(dot.tau_x_s, dot.tau_t_s) * 1e12),
        detection.latency_ps,
        detection.jitter_fwhm_s * 1e12 / FWHM_PER_SIGMA,
        detection.splitter_ratio,
        light.pump_per_s * 1e-12,
        dot.charging_per_biexciton,
    )


def _table(config: WorldConfig, light: Drive) -> Floats:
    """Rows neutral and charged: cumulative probabilities of what is detected, lifetimes, efficiencies."""
    dot, detection = config.dot, config.detection
    efficiency = detection.efficiency if light.train else detection.efficiency_cw
    states = (
        (dot.eta_x, dot.tau_x_s, dot.eta_bx, dot.tau_bx_s),
        (dot.eta_t, dot.tau_t_s, dot.eta_cbx, dot.tau_cbx_s),
    )
    two = at_least_two(light.mean_excitons)
    single = at_least_one(light.mean_excitons) - two
    rows = []
    for eta_1, tau_1, eta_2, tau_2 in states:
        lower, upper = efficiency * eta_1, efficiency * eta_2
        one = single * lower
        only_lower = one + two * lower * (1 - upper)
        only_upper = only_lower + two * upper * (1 - lower)
        total = only_upper + two * upper * lower
        rows.append(
            (total, one, only_lower, only_upper, math.log1p(-total), tau_1 * 1e12, tau_2 * 1e12, lower, upper)
        )
    return np.array(rows)
