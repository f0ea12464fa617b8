"""What derived instruments need of their parents: parts of a delay generator, limits of a parameter."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

from qcodes.instrument import Instrument
from qcodes.parameters import ParameterBase as Parameter
from qcodes.validators import Numbers


class GeneratorOutput(Protocol):
    """An output of a delay generator: a pulse on top of a steady level."""

    amplitude: Parameter  # V
    offset: Parameter  # V, level between the pulses
    polarity: Parameter  # "positive" or "negative"


class GeneratorEdge(Protocol):
    """An edge of a delay generator."""

    delay: Parameter  # s, behind the reference
    reference: Parameter  # name of an edge, "T0" or "A" to "H"


class DelayGenerator(Protocol):
    """A digital delay generator with `channel_a` .. `channel_h` and `output_ab` .. `output_gh`."""

    trigger_source: Parameter  # "internal", "external_rising", "single", ...
    trigger_rate: Parameter  # Hz, of the internal trigger
    burst: Parameter  # bool
    burst_count: Parameter
    burst_delay: Parameter  # s, from the trigger to the first cycle
    burst_period: Parameter  # s


def output_of(generator: DelayGenerator, output: str) -> GeneratorOutput:
    """The output named like "AB". Raises ValueError when the generator has none of that name."""
    return cast(GeneratorOutput, _part(generator, f"output_{output.lower()}"))


def edge_of(generator: DelayGenerator, letter: str) -> GeneratorEdge:
    """The edge named like "A". Raises ValueError when the generator has none of that name."""
    return cast(GeneratorEdge, _part(generator, f"channel_{letter.lower()}"))


def _part(generator: Any, name: str) -> Any:
    if not hasattr(generator, name):
        raise ValueError(f"{generator} has no {name}; correct the output in the bench file")
    return getattr(generator, name)


def limits_of(parameter: Any) -> tuple[float, float]:
    """Lowest and highest value that the parameter accepts; infinite where it has no limits."""
    numbers = parameter.vals
    if not isinstance(numbers, Numbers):
        return -math.inf, math.inf
    return numbers.min_value, numbers.max_value


def clipped(value: float, limits: tuple[float, float]) -> float:
    """`value` within `limits`: takes back what rounding added in a change of variables."""
    return min(max(value, limits[0]), limits[1])


def is_open(instrument: Any) -> bool:
    """False once an instrument has been closed and can no longer be asked for anything."""
    return not isinstance(instrument, Instrument) or Instrument.is_valid(instrument)
