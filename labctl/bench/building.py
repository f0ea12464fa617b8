"""From a bench file to instrument objects, without starting them: for the bench, and for its guardian."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from labctl.bench.config import BenchConfig
from labctl.clock import Clock
from labctl.errors import LabctlError
from labctl.instruments.base import LabInstrument
from labctl.loading import NotFound, load_object, nearest
from labctl.quantities import parse_quantity

_UNITS = {"s": "s", "m": "m", "w": "W", "j": "J", "v": "V", "k": "K", "hz": "Hz", "deg": "deg"}
_NO_OPTIONS = {"self", "name", "address", "link", "clock"}


class BenchError(LabctlError, RuntimeError):
    """The bench cannot be opened, or lacks what is asked of it."""


def resolve(config: BenchConfig, where: str, devices: Mapping[str, Any]) -> dict[str, str]:
    """Where the instruments with an address are, by name; twin:// addresses by the twin's `devices`.

    where: the bench file, for errors. Raises BenchError for a device that the twin does not have.
    """
    addresses = {}
    for name, instrument in config.instruments.items():
        address = instrument.address
        if address is not None and address.startswith("twin://"):
            device = address.removeprefix("twin://")
            if device not in devices:
                raise BenchError(f"{where}: the twin has no device {device!r}{nearest(device, devices)}")
            address = str(devices[device]["address"])
        if address is not None:
            addresses[name] = address
    return addresses


def load_driver(config: BenchConfig, name: str, where: str) -> Any:
    """The class of the instrument `name`. Raises BenchError for one that is missing."""
    try:
        return load_object(config.instruments[name].driver)
    except NotFound as error:
        raise BenchError(f"{where}: {name}: {error}") from error


def build(
    config: BenchConfig,
    name: str,
    where: str,
    *,
    driver: Any,
    address: str | None,
    clock: Clock,
    instruments: Mapping[str, LabInstrument],
) -> LabInstrument:
    """Build the instrument `name`, which opens its link.

    driver: its class. address: resolved; None for a derived instrument, whose parents are in `instruments`.
    Raises BenchError for a driver that does not take its options, and what the driver raises.
    """
    instrument = config.instruments[name]
    parents = {argument: instruments[used] for argument, used in instrument.uses.items()}
    positional = [name] if address is None else [name, address]
    options = {key: _si(key, value) for key, value in instrument.options.items()}
    try:
        built = driver(*positional, clock=clock, **parents, **options)
    except TypeError as error:
        known = [p for p in inspect.signature(driver.__init__).parameters if p not in _NO_OPTIONS]
        if not any(word in str(error) for word in ("unexpected keyword", "missing", "positional")):
            raise
        raise BenchError(
            f"{where}: {name}: {error}; options of {instrument.driver}: {', '.join(known) or 'none'}"
        ) from error
    if not isinstance(built, LabInstrument):
        raise BenchError(f"{where}: {name}: {instrument.driver} is not a LabInstrument")
    return built


def _si(option: str, value: Any) -> Any:
    """Text with a unit as a number, where the name of the option ends in the unit: `zero_s: 5 us`."""
    unit = _UNITS.get(option.rpartition("_")[2])
    return parse_quantity(value, unit) if unit and isinstance(value, str) else value
