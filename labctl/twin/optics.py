"""From knobs to light at the sample: attenuators, gates, beam blocks and the pulse times of the lasers.

The result is a `Drive`, all that the emitter feels. Two knob settings with equal drives are the same to
the dot, so turning the MIR attenuator behind a closed shutter leaves its photons untouched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.twin.config import WorldConfig
from labctl.twin.knobs import Knobs, PulseTrain

PLANCK_TIMES_C = 6.62607015e-34 * 299792458.0


@dataclass(frozen=True)
class Drive:
    """Light at the sample.

    train: trigger edges that become light, None when the pulsed diode is dark.
    mean_excitons: mean number of excitons that a pulse makes in the neutral dot.
    pump_per_s: excitation rate by the CW laser.
    mir_field_mv_cm: peak field of the MIR pulses, 0 when none arrive.
    """

    train: PulseTrain | None = None
    mean_excitons: float = 0.0
    pump_per_s: float = 0.0
    mir_field_mv_cm: float = 0.0


def transmission(angle_deg: float, zero_deg: float, extinction: float) -> float:
    """Half-wave plate in front of a polariser (Malus' law at twice the mechanical angle)."""
    return extinction + (1 - extinction) * math.cos(2 * math.radians(angle_deg - zero_deg)) ** 2


def vis_transmission(knobs: Knobs, config: WorldConfig) -> float:
    """Transmission of beam block and attenuator for visible light."""
    if knobs.vis_blocked:
        return 0.0
    vis = config.visible
    return transmission(knobs.vis_waveplate_deg, vis.waveplate_zero_deg, vis.extinction)


def firing_train(knobs: Knobs, config: WorldConfig) -> PulseTrain | None:
    """The trigger edges that the pulsed diode follows; None with its gate closed."""
    return knobs.diode_train if knobs.diode_gate_v > config.gate_threshold_v else None


def mir_gate_open(knobs: Knobs, config: WorldConfig) -> bool:
    """Whether the MIR pulse picker lets pulses pass."""
    return knobs.mir_gate_v > config.gate_threshold_v


def mir_field_mv_cm(knobs: Knobs, config: WorldConfig) -> float:
    """Peak field of the MIR pulses at the dot: F = F_max sqrt(T); 0 when none arrive."""
    if knobs.mir_blocked or not mir_gate_open(knobs, config):
        return 0.0
    mir = config.mir
    return mir.field_max_mv_cm * math.sqrt(
        transmission(knobs.mir_waveplate_deg, mir.waveplate_zero_deg, mir.extinction)
    )


def drive(knobs: Knobs, config: WorldConfig) -> Drive:
    """Light at the sample for these knobs."""
    vis = config.visible
    passed = vis_transmission(knobs, config)
    train = firing_train(knobs, config)
    pulse_j = vis.pulse_energy_j * passed * vis.pulsed_path_transmission if train is not None else 0.0
    cw_w = knobs.cw_power_w * passed * vis.cw_path_transmission
    return Drive(
        train=train if pulse_j > 0 else None,
        mean_excitons=pulse_j / vis.energy_per_exciton_j,
        pump_per_s=cw_w / vis.energy_per_exciton_j,
        mir_field_mv_cm=mir_field_mv_cm(knobs, config),
    )


def mean_rate_hz(train: PulseTrain | None, mir_period_ps: int) -> float:
    """Mean rate of the pulses of a train; a finite internal burst counts as if it never ended."""
    if train is None:
        return 0.0
    if train.source == "mir_trigger":
        return (train.count or 0) * 1e12 / mir_period_ps
    return 1e12 / train.period_ps


def vis_power_behind_attenuator_w(knobs: Knobs, config: WorldConfig) -> tuple[float, float]:
    """Mean (pulsed, CW) power behind the attenuator."""
    passed = vis_transmission(knobs, config)
    rate_hz = mean_rate_hz(firing_train(knobs, config), config.mir.period_ps)
    return config.visible.pulse_energy_j * rate_hz * passed, knobs.cw_power_w * passed


def vis_flux_at_sample_per_s(knobs: Knobs, config: WorldConfig) -> float:
    """Mean number of visible photons that reach the sample per second."""
    vis = config.visible
    pulsed_w, cw_w = vis_power_behind_attenuator_w(knobs, config)
    at_sample_w = pulsed_w * vis.pulsed_path_transmission + cw_w * vis.cw_path_transmission
    return at_sample_w * vis.wavelength_m / PLANCK_TIMES_C
