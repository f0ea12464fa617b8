"""Limits of a settable parameter: a value outside them is refused before a byte is sent.

The refusal names the instrument, the parameter, the value, the limits and the unit.
"""

from __future__ import annotations

import numpy as np
from qcodes.validators import Numbers

from labctl.instruments.errors import LimitExceeded


class OutOfLimitsError(LimitExceeded, ValueError):
    """A refused value; a ValueError too, as with every QCoDeS validator."""


class Limits(Numbers):
    """Numbers from `low` to `high` (both included) in `unit`.

    Raises OutOfLimitsError for other numbers and for nan, TypeError for what is no number.
    """

    def __init__(self, instrument: str, parameter: str, low: float, high: float, unit: str) -> None:
        super().__init__(float(low), float(high))
        self._instrument = instrument
        self._parameter = parameter
        self._unit = unit

    def validate(self, value: float | np.integer | np.floating, context: str = "") -> None:
        """Refuse `value` unless it lies within the limits."""
        try:
            super().validate(value, context)
        except ValueError as error:
            raise OutOfLimitsError(
                f"{self._parameter} = {value:g} {self._unit} is outside "
                f"{self.min_value:g} to {self.max_value:g} {self._unit}",
                instrument=self._instrument,
                hint="nothing was sent; choose a value within the limits",
            ) from error
