"""Instruments made of other instruments: what a rotator, a pulse output or a meter means on this bench.

A derived instrument has no wire. It computes SI quantities that an experiment asks for from the
parameters of its parents, hides nothing that they do not know, and narrows its limits to what they can do.
"""

from labctl.instruments.derived.attenuator import PickoffPower, WaveplateAttenuator
from labctl.instruments.derived.delay import BurstDelay
from labctl.instruments.derived.diode import PulsedDiode
from labctl.instruments.derived.field import FocusedMirField, PulsedExcitation, peak_field, pulse_energy
from labctl.instruments.derived.gate import GateShutter

__all__ = [
    "BurstDelay",
    "FocusedMirField",
    "GateShutter",
    "PickoffPower",
    "PulsedDiode",
    "PulsedExcitation",
    "WaveplateAttenuator",
    "peak_field",
    "pulse_energy",
]
