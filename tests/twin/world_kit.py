"""Shortcuts of the world's tests: configurations and knobs for wanted light."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.twin.config import WorldConfig
from labctl.twin.emission import Emitter
from labctl.twin.optics import Drive
from labctl.twin.world import PulseTrain, World

S = 10**12
MS = 10**9
FAST = PulseTrain(period_ps=400_000)


def config(**sections: dict[str, Any]) -> WorldConfig:
    return WorldConfig.model_validate(sections)


def waveplate(transmission: float, zero_deg: float, extinction: float) -> float:
    """Angle of the half-wave plate for a transmission of its attenuator."""
    cos2 = (transmission - extinction) / (1 - extinction)
    return zero_deg + 0.5 * math.degrees(math.acos(math.sqrt(cos2)))


def vis_deg(transmission: float) -> float:
    return waveplate(transmission, 12.0, 1e-4)


def mir_deg(field_mv_cm: float) -> float:
    return waveplate((field_mv_cm / 12.0) ** 2, 31.5, 1e-6)


def burst(delay_ps: int, count: int = 2500) -> PulseTrain:
    """A burst per MIR trigger whose pulses come `delay_ps` before the MIR pulse (modulo 400 ns)."""
    offset = (5_137_000 - 31_400 - delay_ps) % 400_000
    return PulseTrain(400_000, count, offset, "mir_trigger")


def pulsed_world(seed: int = 1, mean: float = 0.1, train: PulseTrain = FAST, **knobs: Any) -> World:
    world = World(WorldConfig(), seed)
    world.set(**{"diode_train": train, "diode_gate_v": 2.0, "vis_waveplate_deg": vis_deg(mean), **knobs})
    return world


def emitter(cfg: WorldConfig, light: Drive, seed: int = 1) -> Emitter:
    dot = Emitter(cfg, key=seed)
    dot.switch(0, light, np.random.Generator(np.random.Philox(key=seed)))
    return dot


def charged_fraction(cfg: WorldConfig, light: Drive, duration_s: float, seed: int = 1) -> float:
    """Fraction of the time that the dot is charged."""
    dot = emitter(cfg, light, seed)
    dot.advance(int(duration_s * S))
    return dot.charged_time_ps() / (duration_s * S)


def arrivals_ps(cfg: WorldConfig, light: Drive, duration_s: float, seed: int = 1) -> NDArray[np.int64]:
    """Times of the detected photons, without the cable delay."""
    packed = emitter(cfg, light, seed).advance(int(duration_s * S))
    return np.sort(packed >> 1) - cfg.detection.latency_ps
