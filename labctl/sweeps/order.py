"""The order in which a run visits points: as they come or shuffled, with reference points in between.

Orders follow from a seed alone, so that a resumed run continues in the order in which it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

Permutation = NDArray[np.int64]


def permutation(n: int, seed: int) -> Permutation:
    """int64[n]: the numbers below `n` in the random order of `seed`."""
    # RandomState and not default_rng: numpy promises that its sequence stays the same in later versions
    return np.random.RandomState(seed % 2**32).permutation(n).astype(np.int64, copy=False)


@dataclass(frozen=True)
class Visit:
    """One stop of a sweep: the point `index` of the scan, or a reference point (index -1)."""

    index: int
    reference: bool = False


_REFERENCE = Visit(-1, reference=True)


@dataclass(frozen=True)
class Visits(Sequence[Visit]):
    """The stops of a sweep, as `visits` describes them; a stop is made when it is asked for."""

    n: int
    shuffle: bool
    seed: int
    reference_every: int

    def __len__(self) -> int:
        return self.n + self.references

    @property
    def references(self) -> int:
        """Number of reference points."""
        return -(-self.n // self.reference_every) + 1 if self.reference_every else 0

    @overload
    def __getitem__(self, position: int) -> Visit: ...
    @overload
    def __getitem__(self, position: slice) -> list[Visit]: ...
    def __getitem__(self, position: int | slice) -> Visit | list[Visit]:
        if isinstance(position, slice):
            return [self[place] for place in range(len(self))[position]]
        place = range(len(self))[position]
        if not self.reference_every:
            return self._point(place)
        group, within = divmod(place, self.reference_every + 1)
        if within == 0 or place == len(self) - 1:
            return _REFERENCE
        return self._point(place - group - 1)

    def _point(self, place: int) -> Visit:
        return Visit(int(self._order[place]))

    @cached_property
    def _order(self) -> Permutation | range:
        return permutation(self.n, self.seed) if self.shuffle else range(self.n)


def visits(n: int, *, shuffle: bool = False, seed: int = 0, reference_every: int = 0) -> Visits:
    """The order in which the `n` points of a scan are visited.

    The index of a visit is the position in the scan's own order, turns of snakes included, however the
    visits are shuffled. shuffle: random order from `seed`. reference_every: a reference point before every
    so many points, and one at the end, so that every point lies between two references.
    """
    return Visits(n, shuffle, seed, reference_every)
