"""The twin as a process: a world and its instruments put on the network, kept until somebody says shutdown,
the processes that need it are gone, or nobody has been connected for a long time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.loading import NotFound, load_object
from labctl.twin.control import ControlServer, Twin
from labctl.twin.device import SimDevice
from labctl.twin.faults import FaultBook
from labctl.twin.host import DeviceSpec, Host, make_host
from labctl.twin.presence import Presence, process_alive
from labctl.twin.session import DevicePort
from labctl.twin.timekeeper import Timekeeper

WATCH_S = 0.25
"""Wall time between two looks for clients and parent; also bounds how long a signal can go unnoticed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What is simulated: a world and the instruments around it."""

    name: str
    seed: int
    world: Any
    devices: Mapping[str, DeviceSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Terms:
    """How long the twin lives and how fast its time runs.

    `speed` in world s per wall s, None: as fast as computed, and standing still without an owner.
    `orphan_s` wall time without any client after which the process ends. `parent_pids`: the processes that
    need it; when all are gone and nobody is connected, it ends.
    """

    speed: float | None = None
    orphan_s: float = 600.0
    parent_pids: tuple[int, ...] = ()


class RunningTwin:
    """The running twin; `run` returns when it is over."""

    def __init__(self, bench: Bench, terms: Terms) -> None:
        self._terms = terms
        self._stop: queue.SimpleQueue[str] = queue.SimpleQueue()  # unlike an Event safe in a signal handler
        self._presence = Presence()
        self._keeper = Timekeeper(bench.world, terms.speed)
        faults = FaultBook()
        self._hosts: dict[str, Host] = {}
        for name, spec in bench.devices.items():
            device = load_sim(name, spec.sim)(bench.world, name, **spec.options)
            port = DevicePort(name, device, self._keeper, faults, self._presence)
            self._hosts[name] = make_host(port, spec)
        self.twin_id = uuid.uuid4().hex
        twin = Twin(
            bench.name, bench.seed, self.twin_id, bench.world, self._keeper, self._hosts, faults,
            self._presence, self.stop,
        )  # fmt: skip
        self._control = ControlServer(twin)

    @property
    def ready_line(self) -> str:
        """What the starting process has to know, as one line of JSON."""
        return json.dumps({"control": self._control.address, "twin_id": self.twin_id, "pid": os.getpid()})

    def stop(self, reason: str = "it was told to shut down") -> None:
        """Let `run` return; any thread or signal handler."""
        self._stop.put(reason)

    def run(self) -> None:
        """Open the transports, announce them on stdout and serve until it is over."""
        for host in self._hosts.values():
            host.start()
        self._control.start()
        if self._terms.speed is not None:
            self._keeper.start_pacer()
        sys.stdout.write(self.ready_line + "\n")
        sys.stdout.flush()
        try:
            _log.info("the twin ends: %s", self._await_end())
        finally:
            self.close()

    def close(self) -> None:
        """Stop time and take everything off the network."""
        self._keeper.close()
        for host in self._hosts.values():
            host.close()
        self._control.close()

    def _await_end(self) -> str:
        while (reason := self._reason_to_end()) is None:
            with contextlib.suppress(queue.Empty):
                return self._stop.get(timeout=min(WATCH_S, self._terms.orphan_s / 4))
        return reason

    def _reason_to_end(self) -> str | None:
        absent_s = self._presence.absent_s()
        if absent_s > self._terms.orphan_s:
            return f"no client for {self._terms.orphan_s:g} s"
        parents = self._terms.parent_pids
        if parents and absent_s > 0 and not any(process_alive(pid) for pid in parents):
            return f"the process {parents[0]} that started it is gone"
        return None


def load_sim(name: str, spec: str) -> type[SimDevice]:
    """The class "package.module:Class" of the device called `name`. Raises ValueError."""
    try:
        loaded = load_object(spec)
    except (ImportError, NotFound) as error:
        raise ValueError(f"device {name}: the simulator {spec!r} cannot be loaded: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, SimDevice)):
        raise ValueError(f"device {name}: {spec!r} is not a SimDevice")
    return loaded


def end_on_signals(process: RunningTwin, has_parent: bool) -> None:
    """SIGTERM ends the twin; so does Ctrl-C, unless a run that handles Ctrl-C itself started it."""
    signal.signal(signal.SIGTERM, lambda *_: process.stop("SIGTERM"))
    interrupt = signal.SIG_IGN if has_parent else lambda *_: process.stop("Ctrl-C")
    signal.signal(signal.SIGINT, interrupt)
