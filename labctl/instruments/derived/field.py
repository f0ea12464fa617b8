"""Light at the sample in the units of the physics: the field of a focused pulse, excitons made by a pulse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from qcodes.parameters import ParameterBase as Parameter
from scipy.constants import c, epsilon_0

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument, SafeReport
from labctl.instruments.capabilities import Attenuator
from labctl.instruments.derived.parents import clipped, limits_of
from labctl.instruments.limits import Limits

_GAUSSIAN_PEAK = 2 * math.sqrt(math.log(2) / math.pi)


class SafeAttenuator(Attenuator, Protocol):
    """An attenuator with a safe state."""

    def safe(self) -> SafeReport:
        """Attenuates as much as it can."""
        ...


class PowerAttenuator(SafeAttenuator, Protocol):
    """An attenuator that knows the power behind it."""

    power: Parameter  # W


class MeanRateSource(Protocol):
    """A pulsed source that knows its mean rate."""

    mean_rate: Parameter  # Hz


def peak_field(energy_j: float, waist_m: float, width_s: float) -> float:
    """Vacuum peak field in V/m at the centre of the focus of a Gaussian pulse.

    F = 2 U / (pi w0^2), I = 2 sqrt(ln 2 / pi) F / tau, E = sqrt(2 I / (eps0 c)), with the pulse energy U, the
    1/e^2 radius w0 of the intensity and the full width at half maximum tau of the power.
    """
    fluence = 2 * energy_j / (math.pi * waist_m**2)
    return math.sqrt(2 * _GAUSSIAN_PEAK * fluence / width_s / (epsilon_0 * c))


def pulse_energy(field_v_m: float, waist_m: float, width_s: float) -> float:
    """Pulse energy in J that makes `field_v_m`; the inverse of `peak_field`."""
    intensity = field_v_m**2 * epsilon_0 * c / 2
    return intensity * width_s / _GAUSSIAN_PEAK * math.pi * waist_m**2 / 2


class FocusedMirField(LabInstrument):
    """Peak field at the sample of the mid-infrared pulses that reach it, from the power behind an attenuator.

    U = P / f, then as in `peak_field`. attenuator: has `power`. repetition_rate_hz: f. waist_m: 1/e^2 radius
    of the intensity in the focus. pulse_width_s: full width at half maximum.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        attenuator: PowerAttenuator,
        repetition_rate_hz: float = 1e3,
        waist_m: float,
        pulse_width_s: float,
    ) -> None:
        super().__init__(name, clock=clock)
        self._attenuator = attenuator
        powers_w = limits_of(attenuator.power)

        def field_at(power_w: float) -> float:
            return peak_field(power_w / repetition_rate_hz, waist_m, pulse_width_s)

        def set_field(field_v_m: float) -> None:
            power_w = pulse_energy(field_v_m, waist_m, pulse_width_s) * repetition_rate_hz
            attenuator.power(clipped(power_w, powers_w))

        self.field: Parameter = self.add_parameter(
            "field",
            unit="V/m",
            label="MIR peak field",
            docstring="Vacuum peak field at the emitter of a pulse that the picker lets through. Below the "
            "value that the attenuator's extinction lets through it gives that one, as the read-back tells.",
            get_cmd=lambda: field_at(attenuator.power()),
            set_cmd=set_field,
            vals=Limits(name, "field", 0.0, field_at(powers_w[1]), "V/m"),
        )
        self.pulse_energy: Parameter = self.add_parameter(
            "pulse_energy",
            unit="J",
            label="MIR pulse energy",
            docstring="Energy of a pulse behind the attenuator, P / f.",
            get_cmd=lambda: attenuator.power() / repetition_rate_hz,
            set_cmd=False,
        )

    def state_text(self) -> str:
        return f"{self.field() / 1e8:.3f} MV/cm, {self.pulse_energy():.3g} J"

    def safe(self) -> SafeReport:
        """Makes the attenuator safe: the smallest field."""
        return replace(self._attenuator.safe(), instrument=self.name)


class PulsedExcitation(LabInstrument):
    """Mean number of excitons that one pulse makes: <N> = U T / E_1.

    attenuator: transmission T. source: the pulsed source. pulse_energy_j: U, at the sample and at full
    transmission. energy_per_exciton_j: E_1, energy at the sample that makes one exciton on average.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        attenuator: SafeAttenuator,
        source: MeanRateSource,
        pulse_energy_j: float,
        energy_per_exciton_j: float,
    ) -> None:
        super().__init__(name, clock=clock)
        self._attenuator = attenuator
        full = pulse_energy_j / energy_per_exciton_j
        transmissions = limits_of(attenuator.transmission)
        self.mean_excitons: Parameter = self.add_parameter(
            "mean_excitons",
            label="Mean number of excitons",
            docstring="Mean number of excitons made by one pulse. Values below the one that the attenuator's "
            "extinction lets through give that one, as the read-back tells.",
            get_cmd=lambda: full * attenuator.transmission(),
            set_cmd=lambda number: attenuator.transmission(clipped(number / full, transmissions)),
            vals=Limits(name, "mean_excitons", 0.0, full * transmissions[1], ""),
        )
        self.power: Parameter = self.add_parameter(
            "power",
            unit="W",
            label="Mean power at the sample",
            docstring="Mean power while the source emits, U T times its mean rate.",
            get_cmd=lambda: pulse_energy_j * attenuator.transmission() * source.mean_rate(),
            set_cmd=False,
        )

    def state_text(self) -> str:
        return f"{self.mean_excitons():.4g} excitons per pulse"

    def safe(self) -> SafeReport:
        """Makes the attenuator safe: the fewest excitons."""
        return replace(self._attenuator.safe(), instrument=self.name)
