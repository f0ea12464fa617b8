"""A bench: connected instruments under the names of its file, and one safe state for all of them.

Opening a bench starts its guardian, and its twin if it has one, locks every instrument, opens every link in
parallel, then builds and starts the instruments in the order of the file. Closing it makes everything safe
first; what could not be made safe is left to the guardian.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labctl.bench.building import BenchError, build, load_driver, resolve
from labctl.bench.config import BenchConfig, load_bench
from labctl.bench.guardian_client import Guardian
from labctl.bench.heart import BeatingClock, Heart, Kind
from labctl.bench.locks import Locks
from labctl.bench.safety import LIGHT_LIMIT_S, make_safe, stage_of, within
from labctl.bench.twin_client import AttachedTwin, TwinClock, TwinProcess, start_twin
from labctl.clock import Clock, WallClock
from labctl.errors import LabctlError
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.capabilities import missing_members
from labctl.loading import find_config, load_object, nearest

_log = logging.getLogger(__name__)
SAFE_LIMIT_S = 60.0
"""Wall time after which the guardian takes making safe over from a process that does not get done with it."""
_CONTROL_PORT = re.compile(r"[\w.-]+:\d+")


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
        self,
        config: BenchConfig,
        file: Path,
        clock: Clock,
        twin: TwinProcess | AttachedTwin | None,
        heart: Heart | None = None,
    ) -> None:
        self.config = config
        self.file = file
        self.clock = clock
        self.twin = twin
        self.heart = heart or Heart()
        self.instruments: dict[str, LabInstrument] = {}
        self.identities: dict[str, Identity] = {}
        self.addresses: dict[str, str] = {}
        self.opened: dict[str, LabInstrument] = {}  # all that hold a port, started or not
        self.unsafe: list[str] = []  # what the last `safe` did not make safe

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
        """Make every instrument safe: shutters, then emission, then the rest, each within its limit.

        Whatever one of them does, the others are made safe; see `labctl.bench.safety`.
        """
        opened = {name: self.opened[name] for name in self.config.instruments if name in self.opened}
        uses = {name: config.uses.values() for name, config in self.config.instruments.items()}
        self.unsafe = list(opened)
        with self.heart.promise("making everything safe", SAFE_LIMIT_S, Kind.TRANSACTION):
            reports = make_safe(opened, uses=uses)
        self.unsafe = [report.instrument for report in reports if not report.safe]
        return reports

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


@contextmanager
def open_bench(name: str, twin: TwinOptions | None = None, guardian: bool = True) -> Iterator[Bench]:
    """Open the bench `name`; on leaving, by whatever way, everything is made safe and closed.

    guardian: whether a second process watches over the bench, which only tests can do without.
    Raises NotFound, ConfigError, BenchBusy, BenchError, GuardianError or InstrumentError, each naming what to
    do.
    """
    config, file = load_bench(name)
    multiprocessing.set_start_method("spawn", force=True)  # a forked child would hold our links and locks
    with ExitStack() as stack:
        at_last = stack.enter_context(ExitStack())  # what the guardian may still need
        watcher = Guardian(config) if guardian else None
        leaving = _Leaving(watcher)
        stack.callback(leaving.take_leave)
        bench = leaving.bench = _empty_bench(config, file, twin or TwinOptions(), at_last, watcher)
        stack.callback(_close_all, bench)
        locks = Locks.acquire(bench.addresses)
        at_last.callback(leaving.give_free, locks)
        _own_time(bench)
        if watcher is not None:
            control = bench.twin.control_address if bench.twin is not None else None
            watcher.watch_over(bench.addresses, control, locks)
        stack.callback(bench.safe)
        with bench.heart.promise("opening the bench", Kind.CONNECT.longest_s, Kind.CONNECT):
            _build_all(bench)
        if watcher is not None:
            watcher.tell("built", stages={name: stage_of(i) for name, i in bench.opened.items()})
            watcher.await_ready()
        yield bench


class _Leaving:
    """Taking leave of the guardian, which keeps the locks if there is something left for it to make safe."""

    def __init__(self, guardian: Guardian | None) -> None:
        self.bench: Bench | None = None
        self._guardian = guardian
        self._guardian_gone = True

    def take_leave(self) -> None:
        if self._guardian is not None:
            # one that never answered was not switched on by us, and nobody has to wait for it
            started = self.bench.identities if self.bench is not None else {}
            unsafe = self.bench.unsafe if self.bench is not None else []
            self._guardian_gone = self._guardian.take_leave([name for name in unsafe if name in started])

    def give_free(self, locks: Locks) -> None:
        (locks.release if self._guardian_gone else locks.leave)()


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
        bench = _empty_bench(config, file, TwinOptions(), stack, None)
        _own_time(bench)
        stack.callback(_close_all, bench)
        return [_check_one(bench, instrument, stack) for instrument in config.instruments]


def _check_one(bench: Bench, name: str, stack: ExitStack) -> CheckLine:
    broken = [used for used in bench.config.instruments[name].uses.values() if used not in bench.instruments]
    if broken:
        return CheckLine(name, False, "", f"needs {', '.join(broken)}")
    try:
        if name in bench.addresses:
            stack.callback(Locks.acquire({name: bench.addresses[name]}).release)
        instrument = _build(bench, name)
        _start(bench, name, instrument)
        return CheckLine(name, True, str(bench.identities[name]), instrument.state_text())
    except Exception as error:  # whatever is wrong with one instrument is what the table reports
        return CheckLine(name, False, "", " ".join(str(error).split()))


def _empty_bench(
    config: BenchConfig, file: Path, options: TwinOptions, stack: ExitStack, guardian: Guardian | None
) -> Bench:
    """A bench without instruments yet; its twin starts while the drivers are being imported."""
    companions = [guardian.pid] if guardian is not None else []
    with ThreadPoolExecutor(max_workers=1) as pool:
        starting = pool.submit(_start_twin, config, options, companions)
        for instrument in config.instruments.values():
            _import_driver(instrument.driver)
        twin = starting.result()
    if twin is not None:
        stack.callback(twin.close)
    heart = Heart(guardian)
    if twin is not None:
        twin.client.call_while_waiting(heart.renew)
    clock = BeatingClock(TwinClock(twin.client) if twin else WallClock(), heart)
    bench = Bench(config, file, clock, twin, heart)
    bench.addresses = resolve(config, str(file), twin.client.hello()["devices"] if twin else {})
    return bench


def _own_time(bench: Bench) -> None:
    """Own the twin's time; after its instruments were locked, since that refusal names who holds them."""
    if bench.twin is not None:
        bench.twin.client.lease("bench")


def _start_twin(
    config: BenchConfig, options: TwinOptions, companions: list[int]
) -> TwinProcess | AttachedTwin | None:
    if config.twin is None:
        return None
    if _CONTROL_PORT.fullmatch(config.twin):
        return AttachedTwin(config.twin)
    return start_twin(
        find_config("twins", config.twin), seed=options.seed, overrides=options.overrides,
        speed=options.speed, companions=companions,
    )  # fmt: skip


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
    bench.opened[name] = build(
        bench.config, name, str(bench.file), driver=load_driver(bench.config, name, str(bench.file)),
        address=bench.addresses.get(name), clock=bench.clock, instruments=bench.instruments,
    )  # fmt: skip
    link = bench.opened[name].link
    if link is not None:
        link.declare = partial(bench.heart.promise, kind=Kind.TRANSACTION)
    return bench.opened[name]


def _start(bench: Bench, name: str, instrument: LabInstrument) -> None:
    bench.instruments[name] = instrument
    bench.identities[name] = instrument.start(bench.config.instruments[name].identity)


def _close_all(bench: Bench) -> None:
    """Close every instrument, even if one of them fails to, or hangs."""
    with bench.heart.promise("closing the bench", kind=Kind.CONNECT):
        _close_each(bench)


def _close_each(bench: Bench) -> None:
    for name in reversed([name for name in bench.config.instruments if name in bench.opened]):
        instrument = bench.opened[name]
        try:
            within(LIGHT_LIMIT_S, instrument.close, "closing")
        except Exception as error:
            _log.error("%s could not be closed: %s", name, error)
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
