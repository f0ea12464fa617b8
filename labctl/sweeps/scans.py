"""Scans of several quantities, built from axes by a small algebra.

`axis("delay", delays)` scans one quantity; `a * b` visits all of `b` at each point of `a`; `zipped(a, b)`
moves both together; `a * ~b` turns around after each row of `b`; `repeat(3, a)` goes through `a` three
times; `a.shuffled(7)` visits `a` in random order. A scan is lazy: its length needs no points, and the point
`scan[i]` is made from `i` alone.

Every node answers one question: what are the values at `index` of the `traversal`-th time through it. Only
a snake cares for the traversal (odd ones go backwards), and only products and repeats make further ones; so
products are associative, and `repeat(2, ~a)` goes there and back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from .axes import Axis, SweepError
from .order import Permutation, permutation


class Scan(ABC):
    """A sequence of points; a point is a dict of SI values by axis name.

    The position of a point in the scan is its index, turns of snakes included.
    """

    @property
    @abstractmethod
    def units(self) -> dict[str, str]:
        """SI unit of each axis by name, the outermost axis first."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Lengths of the nested loops, the outermost first; their product is the length."""

    @abstractmethod
    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        """Write the values at `index` of the `traversal`-th time through this scan into `values`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes, the outermost first."""
        return tuple(self.units)

    def __len__(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index: int) -> dict[str, float]:
        if not 0 <= index < len(self):
            raise IndexError(f"scan has {len(self)} points, no point {index}")
        values: dict[str, float] = {}
        self.put(values, index, 0)
        return values

    def __iter__(self) -> Iterator[dict[str, float]]:
        return (self[index] for index in range(len(self)))

    def __mul__(self, inner: Scan) -> Scan:
        return Product(self, inner)

    def __invert__(self) -> Scan:
        return Snake(self)

    def shuffled(self, seed: int) -> Scan:
        """The same points in the random order of `seed`, the same in every traversal."""
        return Shuffled(self, seed)


@dataclass(frozen=True)
class AxisScan(Scan):
    """The values of one axis, under a name."""

    name: str
    axis: Axis

    @cached_property
    def units(self) -> dict[str, str]:
        return {self.name: self.axis.unit}

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (len(self.axis),)

    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        values[self.name] = self.axis[index]


@dataclass(frozen=True)
class Product(Scan):
    """All of `inner` at each point of `outer`. Raises SweepError when both scan the same name."""

    outer: Scan
    inner: Scan

    def __post_init__(self) -> None:
        _require_distinct((self.outer, self.inner))

    @cached_property
    def units(self) -> dict[str, str]:
        return self.outer.units | self.inner.units

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return self.outer.shape + self.inner.shape

    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        row, column = divmod(index, len(self.inner))
        self.outer.put(values, row, traversal)
        self.inner.put(values, column, traversal * len(self.outer) + row)


@dataclass(frozen=True)
class Zipped(Scan):
    """Scans that move together. Raises SweepError for different lengths or a name that occurs twice."""

    scans: tuple[Scan, ...]

    def __post_init__(self) -> None:
        if not self.scans:
            raise SweepError("zipped() needs at least one scan")
        _require_distinct(self.scans)
        if len({len(scan) for scan in self.scans}) > 1:
            lengths = ", ".join(f"{' x '.join(scan.names)} has {len(scan)}" for scan in self.scans)
            raise SweepError(f"zipped scans need equal numbers of points; {lengths}")

    @cached_property
    def units(self) -> dict[str, str]:
        return {name: unit for scan in self.scans for name, unit in scan.units.items()}

    @cached_property
    def shape(self) -> tuple[int, ...]:
        shapes = {scan.shape for scan in self.scans}
        return shapes.pop() if len(shapes) == 1 else (len(self.scans[0]),)

    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        for scan in self.scans:
            scan.put(values, index, traversal)


@dataclass(frozen=True)
class _Wrapped(Scan):
    """The axes of `scan`, in another order."""

    scan: Scan

    @cached_property
    def units(self) -> dict[str, str]:
        return self.scan.units

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return self.scan.shape


@dataclass(frozen=True)
class Snake(_Wrapped):
    """Backwards every second time through: `a * ~b` turns around after each row of `b`."""

    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        if traversal % 2:  # the way of the time before, backwards: snakes inside do not turn once more
            index, traversal = len(self.scan) - 1 - index, traversal - 1
        self.scan.put(values, index, traversal)


@dataclass(frozen=True)
class Repeat(_Wrapped):
    """`times` times through `scan`. Raises SweepError unless that is at least once."""

    times: int

    def __post_init__(self) -> None:
        if self.times < 1:
            raise SweepError(f"a scan cannot be repeated {self.times} times; once is the least")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (self.times, *self.scan.shape)

    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        time, place = divmod(index, len(self.scan))
        self.scan.put(values, place, traversal * self.times + time)


@dataclass(frozen=True)
class Shuffled(_Wrapped):
    """The points of `scan` in the random order of `seed`."""

    seed: int

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return (len(self.scan),)

    @cached_property
    def order(self) -> Permutation:
        """int64[n]: the index in `scan` of each point."""
        return permutation(len(self.scan), self.seed)

    def put(self, values: dict[str, float], index: int, traversal: int) -> None:
        self.scan.put(values, int(self.order[index]), traversal)


def axis(name: str, values: Axis) -> Scan:
    """A scan of one quantity, called `name`."""
    return AxisScan(name, values)


def grid(**axes: Axis) -> Scan:
    """The product of axes, the first one outermost. Raises SweepError when there is none."""
    if not axes:
        raise SweepError("a scan needs at least one axis")
    first, *others = (axis(name, values) for name, values in axes.items())
    for other in others:
        first = product(first, other)
    return first


def product(outer: Scan, inner: Scan) -> Scan:
    """All of `inner` at each point of `outer`; also written `outer * inner`."""
    return Product(outer, inner)


def zipped(*scans: Scan) -> Scan:
    """Scans of equal length that move together."""
    return Zipped(scans)


def snake(scan: Scan) -> Scan:
    """Backwards every second time through; also written `~scan`."""
    return Snake(scan)


def repeat(times: int, scan: Scan) -> Scan:
    """`times` times through `scan`."""
    return Repeat(scan, times)


def _require_distinct(scans: tuple[Scan, ...]) -> None:
    counted = Counter(name for scan in scans for name in scan.names)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise SweepError(f"{', '.join(twice)} is scanned twice; give each axis a name of its own")
