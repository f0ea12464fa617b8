from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from labctl.twin.control import ControlServer, Twin
from labctl.twin.faults import FaultBook
from labctl.twin.host import DeviceSpec, Host, make_host
from labctl.twin.presence import Presence
from labctl.twin.session import DevicePort
from labctl.twin.timekeeper import Timekeeper
from tests.twin.fake_twin import FakeWorld, Stage


class Rig:
    """A twin inside the test's own process: two stages, a control port, a world of time only."""

    def __init__(self, speed: float | None = None, transport: str = "tcp", many: bool = False,
                 grace_s: float = 0.0, banner: str = "") -> None:  # fmt: skip
        self.world = FakeWorld()
        self.keeper = Timekeeper(self.world, speed)
        self.faults = FaultBook()
        self.presence = Presence()
        self.stopped: list[bool] = []
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

    def port(self, name: str = "stage") -> int:
        return int(self.hosts[name].address.rpartition(":")[2])

    def close(self) -> None:
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
