"""A bench: connected instruments under the names of its file, and one safe state for all of them.

Opening a bench starts its twin if it has one, opens every link in parallel, then builds and starts the
instruments in the order of the file. Closing it makes everything safe first.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.bench.config import BenchConfig, InstrumentConfig, load_bench
from labctl.bench.twin_client import AttachedTwin, TwinClock, TwinProcess, start_twin
from labctl.clock import Clock, WallClock
from labctl.errors import LabctlError
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.capabilities import missing_members
from labctl.loading import NotFound, find_config, load_object, nearest
from labctl.quantities import parse_quantity

_log = logging.getLogger(__name__)
_CONTROL_PORT = re.compile(r"[\w.-]+:\d+")
_UNITS = {"s": "s", "m": "m", "w": "W", "j": "J", "v": "V", "k": "K", "hz": "Hz", "deg": "deg"}


_NO_OPTIONS = {"self", "name", "address", "link", "clock"}


class BenchError(LabctlError, RuntimeError):
    """The bench cannot be opened, or lacks what is asked of it."""


@dataclass(frozen=True)
class TwinOptions:
    """How to start the twin of a bench.

    seed: of all its randomness. overrides: settings of its file by dotted path. speed: world seconds
    per wall second, None for as fast as it can be computed.
    """

    seed: int = 0
    overrides: dict[str, Any] | None = None
    speed: float | None = None


class Bench:
    """Instruments by name: `bench.power_meter`, or by role: `bench.role("delay", Delay)`."""

    def __init__(
        self, config: BenchConfig, file: Path, clock: Clock, twin: TwinProcess | AttachedTwin | None
    ) -> None:
        self.config = config
        self.file = file
        self.clock = clock
        self.twin = twin
        self.instruments: dict[str, LabInstrument] = {}
        self.identities: dict[str, Identity] = {}
        self.opened: list[LabInstrument] = []  # all that hold a port, started or not

    def __getattr__(self, name: str) -> Any:
        instruments = self.__dict__.get("instruments", {})
        name = self.__dict__["config"].roles.get(name, name) if "config" in self.__dict__ else name
        if name in instruments:
            return instruments[name]
        raise AttributeError(f"the bench has no instrument {name!r}{nearest(name, instruments)}")

    def require(self, roles: dict[str, type]) -> None:
        """Check that every role is filled by an instrument that has the capability.

        Raises BenchError naming what is missing.
        """
        for role, capability in roles.items():
            name = self.config.roles.get(role, role)
            if name not in self.instruments:
                raise BenchError(
                    f"bench {self.config.bench!r} has no instrument for the role {role!r} "
                    f"({capability.__name__}){nearest(name, self.instruments)}; "
                    f"add it to {self.file} under that name or in `roles:`"
                )
            missing = missing_members(self.instruments[name], capability)
            if missing:
                raise BenchError(
                    f"{name!r} cannot play the role {role!r}: it lacks {', '.join(missing)} "
                    f"of the capability {capability.__name__}"
                )

    def safe(self) -> list[SafeReport]:
        """Make every instrument safe, the last built first; a failure never keeps the others from it."""
        return [_make_safe(instrument) for instrument in reversed(self.instruments.values())]

    def snapshot(self) -> dict[str, Any]:
        """The value of every parameter of every instrument, read now."""
        return {name: _snapshot(instrument) for name, instrument in self.instruments.items()}

    def link_traffic(self) -> dict[str, tuple[int, int]]:
        """Bytes sent and received on every link so far."""
        return {
            name: (instrument.link.bytes_sent, instrument.link.bytes_received)
            for name, instrument in self.instruments.items()
            if instrument.link is not None
        }


def _make_safe(instrument: LabInstrument) -> SafeReport:
    try:
        return instrument.safe()
    except (
        Exception
    ) as error:  # a driver that breaks its promise must not keep the others from their safe state
        return SafeReport(instrument.name, False, (f"safe() failed: {error}",))


@contextmanager
def open_bench(name: str, twin: TwinOptions | None = None) -> Iterator[Bench]:
    """Open the bench `name`; on leaving, by whatever way, everything is made safe and closed.

    Raises NotFound, ConfigError, BenchError or InstrumentError, each naming what to do.
    """
    config, file = load_bench(name)
    with ExitStack() as stack:
        bench = _empty_bench(config, file, twin or TwinOptions(), stack)
        _build_all(bench)
        stack.callback(bench.safe)
        yield bench


@dataclass(frozen=True)
class CheckLine:
    """What `labctl check` says about one instrument."""

    instrument: str
    ok: bool
    identity: str
    state: str


def check_bench(name: str) -> list[CheckLine]:
    """Connect to every instrument of a bench, one after the other, and report each one's state or why not."""
    config, file = load_bench(name)
    with ExitStack() as stack:
        bench = _empty_bench(config, file, TwinOptions(), stack)
        return [_check_one(bench, instrument) for instrument in config.instruments]


def _check_one(bench: Bench, name: str) -> CheckLine:
    broken = [used for used in bench.config.instruments[name].uses.values() if used not in bench.instruments]
    if broken:
        return CheckLine(name, False, "", f"needs {', '.join(broken)}")
    try:
        instrument = _build(bench, name)
        _start(bench, name, instrument)
        return CheckLine(name, True, str(bench.identities[name]), instrument.state_text())
    except Exception as error:  # whatever is wrong with one instrument is what the table reports
        return CheckLine(name, False, "", " ".join(str(error).split()))


def _empty_bench(config: BenchConfig, file: Path, options: TwinOptions, stack: ExitStack) -> Bench:
    """A bench without instruments yet; its twin starts while the drivers are being imported."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        starting = pool.submit(_start_twin, config, options)
        for instrument in config.instruments.values():
            _import_driver(instrument.driver)
        process = starting.result()
    if process is not None:
        stack.callback(process.close)
        process.client.lease("bench")
    bench = Bench(config, file, TwinClock(process.client) if process else WallClock(), process)
    stack.callback(_close_all, bench)
    return bench


def _start_twin(config: BenchConfig, options: TwinOptions) -> TwinProcess | AttachedTwin | None:
    if config.twin is None:
        return None
    if _CONTROL_PORT.fullmatch(config.twin):
        return AttachedTwin(config.twin)
    return start_twin(
        find_config("twins", config.twin), seed=options.seed, overrides=options.overrides, speed=options.speed
    )


def _import_driver(spec: str) -> None:
    with suppress(LabctlError):  # said when the instrument is built
        load_object(spec)


def _build_all(bench: Bench) -> None:
    wired = [n for n, c in bench.config.instruments.items() if c.address is not None]
    with ThreadPoolExecutor(max_workers=max(len(wired), 1)) as pool:
        opened = {name: pool.submit(_build, bench, name) for name in wired}
    failed = [error for future in opened.values() if (error := future.exception()) is not None]
    built = {name: future.result() for name, future in opened.items() if future.exception() is None}
    if failed:
        raise failed[0]
    for name in bench.config.instruments:
        _start(bench, name, built.get(name) or _build(bench, name))


def _build(bench: Bench, name: str) -> LabInstrument:
    config = bench.config.instruments[name]
    try:
        driver = load_object(config.driver)
    except NotFound as error:
        raise BenchError(f"{bench.file}: {name}: {error}") from error
    arguments: dict[str, Any] = {k: bench.instruments[used] for k, used in config.uses.items()}
    positional = [name] if config.address is None else [name, _resolve(bench, config)]
    try:
        options = {key: _si(key, value) for key, value in config.options.items()}
        instrument = driver(*positional, clock=bench.clock, **arguments, **options)
    except TypeError as error:
        known = [p for p in inspect.signature(driver.__init__).parameters if p not in _NO_OPTIONS]
        if not any(word in str(error) for word in ("unexpected keyword", "missing", "positional")):
            raise
        raise BenchError(
            f"{bench.file}: {name}: {error}; options of {config.driver}: {', '.join(known) or 'none'}"
        ) from error
    if not isinstance(instrument, LabInstrument):
        raise BenchError(f"{bench.file}: {name}: {config.driver} is not a LabInstrument")
    bench.opened.append(instrument)
    return instrument


def _si(option: str, value: Any) -> Any:
    """Text with a unit as a number, where the name of the option ends in the unit: `zero_s: 5 us`."""
    unit = _UNITS.get(option.rpartition("_")[2])
    return parse_quantity(value, unit) if unit and isinstance(value, str) else value


def _start(bench: Bench, name: str, instrument: LabInstrument) -> None:
    bench.instruments[name] = instrument
    bench.identities[name] = instrument.start(bench.config.instruments[name].identity)


def _resolve(bench: Bench, config: InstrumentConfig) -> str:
    address = config.address or ""
    if not address.startswith("twin://"):
        return address
    assert bench.twin is not None
    devices = bench.twin.client.hello()["devices"]
    device = address.removeprefix("twin://")
    if device not in devices:
        raise BenchError(f"{bench.file}: the twin has no device {device!r}{nearest(device, devices)}")
    return str(devices[device]["address"])


def _close_all(bench: Bench) -> None:
    """Close every instrument, even if one of them fails to."""
    for instrument in reversed(bench.opened):
        try:
            instrument.close()
        except Exception as error:
            _log.error("%s could not be closed: %s", instrument.name, error)
            LabInstrument.close(instrument)  # the port and the name at least


def _snapshot(instrument: LabInstrument) -> dict[str, Any]:
    values = _readings(instrument, "")
    for child in instrument.submodules.values():
        values |= _readings(child, f"{child.short_name}.")
    return values


def _readings(owner: Any, prefix: str) -> dict[str, Any]:
    return {
        prefix + name: {"value": parameter.get(), "unit": parameter.unit}
        for name, parameter in owner.parameters.items()
        if parameter.gettable and not parameter.snapshot_exclude and name != "IDN"
    }
