from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from labctl.bench.twin_client import TwinClient
from labctl.twin.control import ControlServer, Twin
from labctl.twin.faults import FaultBook
from labctl.twin.host import DeviceSpec, Host, make_host
from labctl.twin.presence import Presence
from labctl.twin.session import DevicePort
from labctl.twin.timekeeper import Timekeeper
from tests.twin.fake_twin import FakeWorld, Stage

DEADLINE_S = 20.0


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is true, within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        pause.wait(0.001)


class Wire:
    """A client of a TCP device, line by line."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")

    def write(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def read(self) -> str:
        """A line with its end; empty when the line was cut."""
        return self.lines.readline().decode("latin-1")

    def ask(self, text: str) -> str:
        self.write(text + "\n")
        return self.read().rstrip("\n")

    def cut(self) -> bool:
        """Whether the other end closes the line."""
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(1) == b""
        return True

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


class Rig:
    """A twin inside the test's own process: two stages, a control port, a world of time only."""

    def __init__(self, speed: float | None = None, transport: str = "tcp", many: bool = False,
                 grace_s: float = 0.0, banner: str = "", world: FakeWorld | None = None) -> None:  # fmt: skip
        self.world = world or FakeWorld()
        self.keeper = Timekeeper(self.world, speed)
        self.faults = FaultBook()
        self.presence = Presence()
        self.stopped: list[bool] = []
        self.opened: list[Wire | TwinClient] = []
        self.stages: dict[str, Stage] = {}
        self.hosts: dict[str, Host] = {}
        spec = DeviceSpec("", transport, module="fake_vendor", many_clients=many)
        for name in ("stage", "other"):
            device = Stage(self.world, name, banner)
            self.stages[name] = device
            port = DevicePort(name, device, self.keeper, self.faults, self.presence, grace_s=grace_s)
            self.hosts[name] = make_host(port, spec)
        twin = Twin("fake", 7, "a1b2", self.world, self.keeper, self.hosts, self.faults, self.presence,
                    lambda: self.stopped.append(True))  # fmt: skip
        self.control = ControlServer(twin)
        for host in self.hosts.values():
            host.start()
        self.control.start()

    def wire(self, name: str = "stage") -> Wire:
        """A client of a device."""
        self.opened.append(wire := Wire(self.port(name)))
        return wire

    def client(self) -> TwinClient:
        """A client of the control port."""
        self.opened.append(client := TwinClient(self.control.address))
        return client

    def port(self, name: str = "stage") -> int:
        return int(self.hosts[name].address.rpartition(":")[2])

    def close(self) -> None:
        for end in self.opened:
            end.close()
        self.keeper.close()
        for host in self.hosts.values():
            host.close()
        self.control.close()


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**options: object) -> Rig:
        rigs.append(Rig(**options))  # type: ignore[arg-type]
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
