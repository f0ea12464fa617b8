"""The hidden truth of a simulated bench as a commented YAML file, validated to the last field.

Every number has its unit in its name. A mistake is reported with file and line, and with what is
expected there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.config_files import load_model

CHANNELS = (1, 2, 3, 4, 5, 6)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _unit_interval(default: float, description: str) -> Any:
    return Field(default=default, ge=0, le=1, description=description)


class DotConfig(_Model):
    """A colloidal dot that is neutral (X) or negatively charged (T)."""

    tau_x_s: float = Field(default=30e-9, gt=0, description="total lifetime of the exciton")
    eta_x: float = _unit_interval(0.95, "quantum yield of the exciton")
    tau_t_s: float = Field(default=3.0e-9, gt=0, description="total lifetime of the trion")
    eta_t: float = _unit_interval(0.19, "quantum yield of the trion")
    tau_bx_s: float = Field(default=0.734e-9, gt=0, description="total lifetime of the biexciton")
    eta_bx: float = _unit_interval(0.093, "quantum yield of the biexciton")
    tau_cbx_s: float = Field(default=0.158e-9, gt=0, description="total lifetime of the charged biexciton")
    eta_cbx: float = _unit_interval(0.02, "quantum yield of the charged biexciton")
    charging_per_biexciton: float = _unit_interval(
        3.41965e-4, "probability that a biexciton of the neutral dot leaves it charged"
    )
    neutralisation_rate_per_s: float = Field(
        default=10.0, ge=0, description="rate at which the charged dot recovers"
    )
    kick_amplitude: float = Field(default=20.0, ge=0, description="A in p(F) = 1 - exp(-A exp(-F0/F))")
    discharge_field_mv_cm: float = Field(
        default=15.0, gt=0, description="F0 for the discharge of the charged dot"
    )
    ionisation_field_mv_cm: float = Field(
        default=60.0, gt=0, description="F0 for the ionisation of an exciton"
    )
    initially_charged: bool = Field(default=False, description="charge state at world time 0")


class VisibleConfig(_Model):
    """The 405 nm lasers, their common attenuator and the way to the sample."""

    wavelength_m: float = Field(default=405e-9, gt=0, description="wavelength of both lasers")
    waveplate_zero_deg: float = Field(
        default=12.0, description="angle of the half-wave plate at full transmission"
    )
    extinction: float = _unit_interval(1e-4, "transmission of the attenuator at its minimum")
    pickoff_ratio: float = _unit_interval(0.05, "part of the power behind the attenuator that the meter sees")
    pulse_energy_j: float = Field(
        default=2e-12, ge=0, description="energy per pulse in front of the attenuator"
    )
    pulse_fwhm_s: float = Field(default=80e-12, ge=0, description="duration of the diode's pulses")
    pulse_jitter_s: float = Field(
        default=20e-12, ge=0, description="rms jitter of a pulse against its trigger"
    )
    trigger_latency_ps: int = Field(
        default=31_400, ge=0, description="edge at the diode to light at the sample"
    )
    pulsed_path_transmission: float = _unit_interval(0.025, "attenuator to sample, pulsed diode")
    cw_path_transmission: float = _unit_interval(3.15e-4, "attenuator to sample, CW laser with its filters")
    energy_per_exciton_j: float = Field(
        default=5e-14,
        gt=0,
        description="energy at the sample that makes one exciton on average (mean number 1)",
    )


class MirConfig(_Model):
    """The amplifier-pumped mid-infrared source."""

    period_ps: int = Field(default=1_000_000_000, gt=0, description="period of the amplifier's triggers")
    arrival_ps: int = Field(default=5_137_000, ge=0, description="from a trigger to the pulse at the sample")
    field_max_mv_cm: float = Field(default=12.0, ge=0, description="vacuum peak field at full transmission")
    waveplate_zero_deg: float = Field(
        default=31.5, description="angle of the half-wave plate at full transmission"
    )
    extinction: float = _unit_interval(1e-6, "transmission of the attenuator at its minimum")


class DetectionConfig(_Model):
    """Collection, beam splitter, two SPADs and the inputs of the time tagger."""

    efficiency: float = _unit_interval(0.05, "probability that an emitted photon is detected, pulsed set-up")
    efficiency_cw: float = _unit_interval(0.085, "the same with the CW laser and its wider filters")
    splitter_ratio: float = _unit_interval(0.5, "part of the light that goes to detector A (channel 1)")
    dark_rate_a_per_s: float = Field(default=100.0, ge=0, description="dark counts of detector A")
    dark_rate_b_per_s: float = Field(default=100.0, ge=0, description="dark counts of detector B")
    dead_time_ps: int = Field(default=50_000, ge=0, description="dead time, not extended by later photons")
    afterpulse_probability: float = Field(default=0.005, ge=0, le=0.5, description="after-pulses per click")
    afterpulse_decay_s: float = Field(
        default=50e-9, gt=0, description="decay of after-pulsing after the dead time"
    )
    crosstalk_probability: float = Field(
        default=0.0, ge=0, le=0.5, description="flashes seen by the other detector"
    )
    crosstalk_delay_ps: int = Field(default=6_000, ge=0, description="way of the flash to the other detector")
    jitter_fwhm_s: float = Field(default=350e-12, ge=0, le=1e-9, description="Gaussian jitter of a detector")
    tagger_jitter_s: float = Field(
        default=10e-12, ge=0, le=0.1e-9, description="rms jitter of every tagger input"
    )
    latency_ps: int = Field(default=20_000, ge=10_000, description="cable delay common to all channels")
    skew_ps: dict[int, int] = Field(
        default_factory=lambda: {1: 0, 2: 1_300, 3: -7_200, 4: 42_000, 5: 0, 6: 0},
        description="further delay of each channel",
    )
    buffer_tags: int = Field(
        default=50_000_000, gt=0, description="tags that the tagger holds for one reader"
    )

    @model_validator(mode="after")
    def _causal(self) -> DetectionConfig:
        if set(self.skew_ps) != set(CHANNELS):
            raise ValueError(f"skew_ps needs exactly the channels {CHANNELS}, got {tuple(self.skew_ps)}")
        floor = 1_000 - self.latency_ps // 2
        early = {channel: skew for channel, skew in self.skew_ps.items() if skew < floor}
        if early:
            raise ValueError(f"skew_ps below {floor} ps would put tags before their cause: {early}")
        return self


class WorldConfig(_Model):
    """The hidden truth: what the bench would have to find out."""

    dot: DotConfig = Field(default=DotConfig(), description="the emitter")
    visible: VisibleConfig = Field(default=VisibleConfig(), description="visible light")
    mir: MirConfig = Field(default=MirConfig(), description="mid-infrared light")
    detection: DetectionConfig = Field(default=DetectionConfig(), description="detection")
    gate_threshold_v: float = Field(default=1.5, description="level above which a gate input is open")


class DeviceConfig(_Model):
    """One simulated instrument and how clients reach it."""

    sim: str = Field(pattern=r"^[\w.]+:\w+$", description="simulator, package.module:Class")
    transport: Literal["tcp", "pty", "visa", "vendor"] = Field(description="how clients reach it")
    vendor_module: str | None = Field(default=None, description="module with the vendor library's names")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the simulator")

    @model_validator(mode="after")
    def _vendor(self) -> DeviceConfig:
        if (self.transport == "vendor") != (self.vendor_module is not None):
            raise ValueError("vendor_module belongs to transport 'vendor', and to no other")
        return self


class TwinConfig(_Model):
    """A simulated bench: its world and its instruments."""

    name: str = Field(description="name of the bench")
    description: str = Field(default="", description="what it is for")
    seed: int = Field(default=1, ge=0, description="seed when none is given")
    world: WorldConfig = Field(default=WorldConfig(), description="the hidden truth")
    devices: dict[str, DeviceConfig] = Field(default_factory=dict, description="instruments by name")


def load_twin(path: str | Path, overrides: Mapping[str, Any] | None = None) -> TwinConfig:
    """Read and validate a twin's YAML file; ConfigError names file, line and what is expected.

    overrides: values by dotted path, e.g. `{"world.dot.tau_x_s": 21e-9}`, instead of those of the file.
    """
    return load_model(path, TwinConfig, overrides)
