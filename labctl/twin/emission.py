"""The dot as a source of detected photons: charge state, excitation, cascade and MIR kicks in time order.

Every step draws the next event once and keeps it, so the photons do not depend on where the caller stops and
resumes. Changing the light begins a new segment, with a random stream of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from labctl.twin.config import WorldConfig
from labctl.twin.emission_cw import run_cw, start_cw
from labctl.twin.emission_pulsed import run_pulsed, start_pulsed
from labctl.twin.emission_state import (
    CHARGED,
    KICK_AT,
    LEVEL,
    MEMORY_LIFETIMES,
    SKIPPED,
    Floats,
    Ints,
    Params,
)
from labctl.twin.optics import Drive
from labctl.twin.pulses import FAR_PS, FWHM_PER_SIGMA, pulses_of
from labctl.twin.sample import at_least_one, at_least_two, discharge_probability, ionisation_probability


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
