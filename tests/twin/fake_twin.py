"""A world without light and a small instrument, for tests of the host; also a twin program of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.twin.__main__ import main
from labctl.twin.device import Reply, SimDevice
from labctl.twin.host import DeviceSpec
from labctl.twin.process import Bench

S = 1_000_000_000_000


class FakeWorld:
    """A world in which nothing happens but time; it remembers its steps."""

    def __init__(self) -> None:
        self.now_ps = 0
        self.knobs: dict[str, Any] = {"mir_blocked": False}
        self.steps: list[int] = []

    def advance_to(self, t_ps: int) -> None:
        assert t_ps > self.now_ps, "world time went back"
        self.steps.append(t_ps - self.now_ps)
        self.now_ps = t_ps

    def set(self, **changes: Any) -> None:
        for knob, value in changes.items():
            if knob not in self.knobs:
                raise ValueError(f"no knob {knob!r}")
            self.knobs[knob] = value

    def truth(self) -> dict[str, Any]:
        return {"parameters": {"answer": 42}, "state": dict(self.knobs)}


class Stage(SimDevice):
    """Commands end with LF. `MOVE s` answers DONE s when the move is over, `POS?` and `STOP` at once."""

    def __init__(self, world: Any, name: str, banner: str = "", **options: Any) -> None:
        super().__init__(world, name, **options)
        self.line = b""
        self.tripped: list[tuple[str, Any]] = []
        self.clients = 0
        self.banner = banner.encode()

    def connected(self) -> list[Reply]:
        self.clients += 1
        return [Reply(self.banner)] if self.banner else []

    def disconnected(self) -> None:
        self.clients -= 1

    def feed(self, data: bytes) -> list[Reply]:
        *commands, self.line = (self.line + data).split(b"\n")
        return [reply for command in commands if (reply := self.obey(command.decode())) is not None]

    def obey(self, command: str) -> Reply | None:
        word, _, rest = command.partition(" ")
        if word == "MOVE":
            return Reply(f"DONE {rest}\n".encode(), self.world.now_ps + round(float(rest) * S))
        if word == "SET":
            return None
        if word == "CRASH":
            raise ZeroDivisionError("a fault of the simulator")
        answers = {"POS?": b"12.5\n", "STOP": b"STOPPED\n"}
        return Reply(answers.get(word, b"ERR " + command.encode() + b"\n"))

    def state(self) -> dict[str, Any]:
        return {"clients": self.clients, "tripped": self.tripped}

    def trip(self, fault: str, value: Any = None) -> None:
        self.tripped.append((fault, value))


def build(config_path: Path, seed: int | None, overrides: Mapping[str, Any]) -> Bench:
    """Two stages; `--set transport=pty` and the like change the first one."""
    if not config_path.exists():
        raise ValueError(f"{config_path}: no such file")
    sim = f"{__name__ if __name__ != '__main__' else 'tests.twin.fake_twin'}:Stage"
    first = DeviceSpec(sim, transport=overrides.get("transport", "tcp"), module="fake_vendor")
    return Bench("fake", seed or 0, FakeWorld(), {"stage": first, "other": DeviceSpec(sim)})


if __name__ == "__main__":
    sys.exit(main(build=build))
