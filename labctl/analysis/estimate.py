"""What an analysis says about one quantity: a value, its two errors, and where they come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """One estimated quantity.

    value, error_low, error_high: in `unit`; the errors are positive 68.3 % half-widths.
    method: how value and errors were obtained, in a few words.
    n: size of the evidence (counts, transitions, ...), None where that says nothing.
    raw: True for an uncorrected value (for instance a visibility before background correction).
    """

    quantity: str
    value: float
    error_low: float
    error_high: float
    unit: str
    method: str
    n: int | None = None
    raw: bool = False

    @property
    def error(self) -> float:
        """Mean of the two errors, for tables."""
        return 0.5 * (self.error_low + self.error_high)

    def pull(self, truth: float) -> float:
        """(value - truth) / error, with the error of the side on which the truth lies."""
        difference = self.value - truth
        error = self.error_low if difference > 0 else self.error_high
        return difference / error

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"error": self.error}
