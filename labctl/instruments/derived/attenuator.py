"""Power that a beam carries: a half-wave plate in front of a polariser, and a meter behind a pick-off."""

from __future__ import annotations

import math

from qcodes.parameters import ParameterBase as Parameter

from labctl.clock import Clock
from labctl.instruments.base import LabInstrument, SafeReport
from labctl.instruments.capabilities import PowerMeter, Rotator
from labctl.instruments.derived.parents import clipped, limits_of
from labctl.instruments.limits import Limits

BRANCH_DEG = 45.0
PERIOD_DEG = 90.0
_SAFE_TOLERANCE_DEG = 0.5
_ROUNDING = 1e-9


class WaveplateAttenuator(LabInstrument):
    """A rotating half-wave plate in front of a fixed polariser (Malus).

    T(theta) = e + (1 - e) cos^2(2 (theta - theta0)), with the extinction e and the angle theta0 of full
    transmission. T repeats every 90 deg and falls monotonically over the 45 deg behind each maximum. Only
    these branches are used, so that a transmission always stands for the same state of the optics up to
    multiples of 90 deg; of these the one nearest to the present angle is taken.

    zero_angle_deg: theta0. extinction: e, transmission at the minimum. max_power_w: power at T = 1.
    Raises ValueError when the rotator's limits leave nothing of any branch.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        rotator: Rotator,
        zero_angle_deg: float,
        extinction: float,
        max_power_w: float,
    ) -> None:
        super().__init__(name, clock=clock)
        self._rotator = rotator
        self._zero_deg = zero_angle_deg
        self._extinction = extinction
        self._max_power_w = max_power_w
        self._limits_deg = limits_of(rotator.angle)
        self._transmissions = self._transmission_limits()
        lowest, highest = self._transmissions
        self.transmission: Parameter = self.add_parameter(
            "transmission",
            label="Transmission",
            docstring="Transmitted part of the power, T = e + (1 - e) cos^2(2 (theta - theta0)).",
            get_cmd=lambda: self._transmission_at(self._rotator.angle()),
            set_cmd=self._set_transmission,
            vals=Limits(name, "transmission", lowest, highest, ""),
        )
        self.power: Parameter = self.add_parameter(
            "power",
            unit="W",
            label="Transmitted power",
            docstring="Power behind the attenuator, T max_power_w.",
            get_cmd=lambda: self.transmission() * self._max_power_w,
            set_cmd=lambda power_w: self.transmission(clipped(power_w / max_power_w, self._transmissions)),
            vals=Limits(name, "power", lowest * max_power_w, highest * max_power_w, "W"),
        )
        self.angle: Parameter = self.add_parameter(
            "angle",
            unit="deg",
            label="Angle of the half-wave plate",
            docstring="Mechanical angle of the rotator.",
            get_cmd=lambda: self._rotator.angle(),
            set_cmd=False,
        )

    def state_text(self) -> str:
        return f"transmission {self.transmission():.4g} at {self.angle():.3f} deg"

    def safe(self) -> SafeReport:
        """Turns to the lowest transmission."""
        lowest = self._transmissions[0]

        def is_lowest() -> bool:
            beside_deg = self._branch_angle(self.transmission()) - self._branch_angle(lowest)
            return abs(beside_deg) < _SAFE_TOLERANCE_DEG

        return self.attempt_safe(lambda: self.transmission(lowest), is_lowest, f"transmission {lowest:.3g}")

    def _transmission_at(self, angle_deg: float) -> float:
        cosine = math.cos(math.radians(2 * (angle_deg - self._zero_deg)))
        return self._extinction + (1 - self._extinction) * cosine**2

    def _branch_angle(self, transmission: float) -> float:
        """Angle behind the maximum, in [0, 45] deg, that transmits `transmission`."""
        part = (transmission - self._extinction) / (1 - self._extinction)
        return math.degrees(math.acos(math.sqrt(clipped(part, (0.0, 1.0))))) / 2

    def _set_transmission(self, transmission: float) -> None:
        low, high = self._limits_deg
        first = self._zero_deg + self._branch_angle(transmission)
        present = self._rotator.angle()
        # where the limits cut a branch, its end lies on them up to rounding
        least, most = (low - first) / PERIOD_DEG - _ROUNDING, (high - first) / PERIOD_DEG + _ROUNDING
        turns = round((present - first) / PERIOD_DEG)
        turns = min(turns, math.floor(most)) if math.isfinite(most) else turns
        turns = max(turns, math.ceil(least)) if math.isfinite(least) else turns
        self._rotator.angle(clipped(first + turns * PERIOD_DEG, self._limits_deg))

    def _transmission_limits(self) -> tuple[float, float]:
        """Range of T that the longest reachable piece of a branch covers."""
        low, high = self._limits_deg
        if math.isinf(low) or math.isinf(high) or high - low >= PERIOD_DEG:
            return self._extinction, 1.0
        pieces = []
        first = math.floor((low - self._zero_deg) / PERIOD_DEG)
        for turn in range(first, math.ceil((high - self._zero_deg) / PERIOD_DEG) + 1):
            begin = self._zero_deg + turn * PERIOD_DEG
            pieces.append((max(low, begin) - begin, min(high, begin + BRANCH_DEG) - begin))
        begin, end = max(pieces, key=lambda piece: piece[1] - piece[0])
        if end <= begin:
            raise ValueError(
                f"{self.name}: the rotator's limits {low:g} to {high:g} deg hold none of the 45 deg behind a "
                f"maximum of transmission at {self._zero_deg:g} deg; correct zero_angle_deg or the limits"
            )
        return self._transmission_at(self._zero_deg + end), self._transmission_at(self._zero_deg + begin)


class PickoffPower(LabInstrument):
    """Power at the sample, from a meter that sees a part of the beam: P_sample = P_meter / ratio.

    ratio: power at the meter over power at the sample.
    """

    def __init__(self, name: str, *, clock: Clock | None = None, meter: PowerMeter, ratio: float) -> None:
        super().__init__(name, clock=clock)
        if not ratio > 0:
            raise ValueError(f"{name}: the pick-off ratio must be positive, not {ratio}")
        self.power: Parameter = self.add_parameter(
            "power",
            unit="W",
            label="Power at the sample",
            docstring="Reading of the meter divided by the pick-off ratio.",
            get_cmd=lambda: meter.power() / ratio,
            set_cmd=False,
        )
        self.wavelength: Parameter = self.add_parameter(
            "wavelength",
            unit="m",
            label="Wavelength",
            docstring="Wavelength for which the meter corrects its reading.",
            get_cmd=lambda: meter.wavelength(),
            set_cmd=lambda wavelength_m: meter.wavelength(wavelength_m),
            vals=Limits(name, "wavelength", *limits_of(meter.wavelength), "m"),
        )

    def state_text(self) -> str:
        return f"{self.power():.4g} W at the sample"
