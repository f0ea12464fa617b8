"""Peaks of a pulsed correlation on a lag axis: where the comb lies, what is in each tooth, what leaks.

`PulsedCorrelation` counts by pulse number and needs none of this where there is a sync. Without one the peaks
of a `Correlation` are cut out of its lags, and the tails of neighbours under each peak are allowed for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Zero:
    """Position of the zero peak: the skew between the channels, in ps, with its standard error."""

    offset_ps: float
    error_ps: float


@dataclass(frozen=True)
class PeakAreas:
    """Counts around each peak. numbers: int64[n], pulse-number differences from -m to m; areas: int64[n]."""

    numbers: NDArray[np.int64]
    areas: NDArray[np.int64]
    period_ps: float
    half_width_ps: float

    def without_leakage(self, lifetime_ps: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Areas of whole peaks and their standard errors, float64[n] each: the tails of neighbours taken out.

        For exponential decays of one lifetime a peak is exp(-|lag| / lifetime); the window holds only part of
        it, and part of all others. Peaks beyond the outermost ones are taken to be like these on average.
        """
        order = np.abs(self.numbers[:, np.newaxis] - self.numbers)
        shares = leakage(order, self.period_ps, self.half_width_ps, lifetime_ps)
        gap, span = self.period_ps - self.half_width_ps, self.period_ps + self.half_width_ps
        from_all_others = (np.exp(-gap / lifetime_ps) - np.exp(-span / lifetime_ps)) / -np.expm1(
            -self.period_ps / lifetime_ps
        )
        beyond = from_all_others - (shares.sum(axis=1) - np.diag(shares))
        outermost = np.abs(self.numbers) == np.abs(self.numbers).max()
        unmix = np.linalg.inv(shares + np.outer(beyond, outermost / np.count_nonzero(outermost)))
        return unmix @ self.areas, np.sqrt(unmix**2 @ np.maximum(self.areas, 1))


def leakage(
    order: NDArray[np.int64], period_ps: float, half_width_ps: float, lifetime_ps: float
) -> NDArray[np.float64]:
    """Share of a peak that lies in the window of the peak `order` places away (0: in its own)."""
    distance = np.maximum(np.abs(order), 1) * period_ps
    near, far = distance - half_width_ps, distance + half_width_ps
    tail = 0.5 * (np.exp(-near / lifetime_ps) - np.exp(-far / lifetime_ps))
    return np.where(order == 0, -np.expm1(-half_width_ps / lifetime_ps), tail)


def find_zero(lag_edges_ps: NDArray[np.int64], counts: NDArray[np.int64], period_ps: float) -> Zero:
    """The peak position nearest to lag 0, from the phase of all counts modulo the period.

    An offset beyond half a period cannot be told from a smaller one. ValueError when the counts show no comb
    of that period (less than 4 standard deviations).
    """
    centres = 0.5 * (lag_edges_ps[1:] + lag_edges_ps[:-1])
    total = float(counts.sum())
    turns = np.exp(2j * np.pi * centres / period_ps)
    first = complex(np.sum(counts * turns)) / max(total, 1.0)
    length = abs(first)
    if total * length**2 < 16.0:
        raise ValueError(
            f"the correlation shows no peaks with a period of {period_ps:g} ps: measure longer"
        )
    second = complex(np.sum(counts * turns**2)) / total
    along = (second * (first.conjugate() / length) ** 2).real
    error = np.sqrt(max(1.0 - along, 0.0) / (2.0 * total)) / length
    per_radian = period_ps / (2.0 * np.pi)
    return Zero(float(np.angle(first)) * per_radian, float(error) * per_radian)


def peak_areas(
    lag_edges_ps: NDArray[np.int64],
    counts: NDArray[np.int64],
    period_ps: float,
    zero_ps: float = 0.0,
    half_width_ps: float | None = None,
) -> PeakAreas:
    """Counts within half_width_ps (default: half the period) of each peak that is wholly inside the lags.

    A bin belongs to the peak in whose window its centre lies. ValueError when not even the zero peak fits.
    """
    width = 0.5 * period_ps if half_width_ps is None else half_width_ps
    if not 0.0 < width <= 0.5 * period_ps:
        raise ValueError(f"half_width_ps must be above 0 and at most half of {period_ps:g} ps, got {width:g}")
    centres = 0.5 * (lag_edges_ps[1:] + lag_edges_ps[:-1]) - zero_ps
    reach = min(lag_edges_ps[-1] - zero_ps, zero_ps - lag_edges_ps[0]) - width
    if reach < 0.0:
        raise ValueError("the lags do not hold the zero peak: use a wider window")
    most = int(reach // period_ps)
    number = np.floor(centres / period_ps + 0.5).astype(np.int64)
    inside = (np.abs(number) <= most) & (np.abs(centres - number * period_ps) <= width)
    areas = np.bincount(number[inside] + most, counts[inside], minlength=2 * most + 1)
    return PeakAreas(np.arange(-most, most + 1), np.rint(areas).astype(np.int64), period_ps, width)
