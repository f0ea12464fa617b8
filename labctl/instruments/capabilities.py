"""Capabilities: what an experiment may ask of an instrument, whatever its maker.

An experiment names the capability of each role that it needs; a bench gives the role to any instrument
that has these members. All values are SI; members written as `Parameter` are called: `laser.power()`
reads, `laser.emission(True)` sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, get_type_hints

from qcodes.parameters import ParameterBase as Parameter

from labctl.timetags.block import TagBlock


class Laser(Protocol):
    """A laser whose emission and power can be set."""

    emission: Parameter  # bool
    power_setpoint: Parameter  # W
    power: Parameter  # W, read-only
    interlock_ok: Parameter  # bool, read-only


class PulsedSource(Protocol):
    """A source of laser pulses."""

    enabled: Parameter  # bool
    rate: Parameter  # Hz, pulses per second
    pulse_width: Parameter  # s, read-only
    synchronised: Parameter  # bool: locked to the MIR amplifier (bursts) or free running


class Shutter(Protocol):
    """Something that lets a beam through or not."""

    open: Parameter  # bool


class Attenuator(Protocol):
    """A variable attenuator."""

    transmission: Parameter  # 0..1


class Delay(Protocol):
    """A delay between two pulses, whatever makes it."""

    delay: Parameter  # s
    resolution: Parameter  # s, read-only
    wraps: Parameter  # s: delays that differ by this much are the same


class Rotator(Protocol):
    """A motorised rotation mount."""

    angle: Parameter  # deg

    def home(self) -> None:
        """Move to the reference position."""


class PowerMeter(Protocol):
    """An optical power meter."""

    power: Parameter  # W
    wavelength: Parameter  # m


class TimeTagger(Protocol):
    """A time tagger: where photons become numbers."""

    def stream(self, channels: list[int], duration_s: float, slice_s: float) -> Iterator[TagBlock]:
        """Tags of `channels` for `duration_s` of tagger time, as consecutive blocks."""
        ...

    def count_rates(self, channels: list[int], duration_s: float) -> dict[int, float]:
        """Mean rates in 1/s over `duration_s`."""
        ...

    def set_trigger(self, channel: int, level_v: float) -> None:
        """Trigger level of an input in V."""
        ...

    def set_delay(self, channel: int, delay_ps: int) -> None:
        """Delay added to the tags of an input."""
        ...

    def set_dead_time(self, channel: int, dead_time_ps: int) -> int:
        """Dead time of an input; returns the value that the hardware realises."""
        ...

    def set_conditional_filter(self, trigger: list[int], filtered: list[int]) -> None:
        """Pass only the first tag of `filtered` inputs after a tag of a `trigger` input; [] passes all."""
        ...


class Excitation(Protocol):
    """The visible excitation at the sample, in the unit that the physics uses."""

    mean_excitons: Parameter  # mean number of excitons made by one pulse


class MirField(Protocol):
    """The mid-infrared field at the sample."""

    field: Parameter  # V/m, vacuum peak field at the emitter


def missing_members(instrument: object, capability: type) -> list[str]:
    """Members of `capability` that `instrument` lacks, in order; empty when it fits."""
    methods = [
        name for name, value in vars(capability).items() if callable(value) and not name.startswith("_")
    ]
    members = [*get_type_hints(capability), *methods]
    return [member for member in members if not hasattr(instrument, member)]
