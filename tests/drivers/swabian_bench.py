"""A small bench for the time tagger: a world of seeded tags, a clock that moves it, and a TCP host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.taggers.sim.swabian_timetagger import SwabianTimeTaggerSim

PS = 10**12
MODULE = "drivers.taggers.sim.swabian_api"


@dataclass
class Taken:
    times_ps: NDArray[np.int64]
    channels: NDArray[np.int32]
    begin_ps: int
    end_ps: int
    gaps: list[tuple[int, int, dict[int, int]]]


class FakeSubscription:
    def __init__(self, tags: FakeTags, channels: Sequence[int]) -> None:
        self._tags, self._channels, self._begin_ps = tags, list(channels), tags.world.now_ps
        self.open = True

    def take(self) -> Taken:
        begin, end = self._begin_ps, self._tags.world.now_ps
        self._begin_ps = end
        times, channels = self._tags.between(begin, end, self._channels)
        gaps = []
        for low, high in self._tags.losses:
            low, high = max(low, begin), min(high, end)
            if low < high:
                lost = (times >= low) & (times < high)
                numbers, counts = np.unique(channels[lost], return_counts=True)
                gaps.append((low, high, dict(zip(numbers.tolist(), counts.tolist(), strict=True))))
                times, channels = times[~lost], channels[~lost]
        return Taken(times, channels, begin, end, gaps)

    def close(self) -> None:
        self.open = False


class FakeTags:
    """All tags that the world will ever have, drawn once."""

    def __init__(self, world: FakeWorld, rates: dict[int, float], seed: int, length_s: float) -> None:
        self.world = world
        self.losses: list[tuple[int, int]] = []
        self.subscriptions: list[FakeSubscription] = []
        self.delays: dict[int, int] = {}
        self.dead_times: dict[int, int] = {}
        self.filter: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        rng = np.random.default_rng(seed)
        counts = {channel: rng.poisson(rate * length_s) for channel, rate in rates.items()}
        numbers = [np.full(count, channel, np.int32) for channel, count in counts.items()]
        self.channels = np.concatenate(numbers)
        rng.shuffle(self.channels)
        self.times = np.sort(rng.integers(0, round(length_s * PS), self.channels.size, dtype=np.int64))

    def between(
        self, begin_ps: int, end_ps: int, channels: list[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        low, high = np.searchsorted(self.times, (begin_ps, end_ps))
        wanted = np.isin(self.channels[low:high], channels)
        return self.times[low:high][wanted], self.channels[low:high][wanted]

    def subscribe(self, channels: Sequence[int]) -> FakeSubscription:
        self.subscriptions.append(FakeSubscription(self, channels))
        return self.subscriptions[-1]

    def set_conditional_filter(self, trigger: Sequence[int], filtered: Sequence[int]) -> None:
        if filtered and tuple(filtered) != (3,):
            raise RuntimeError("only channel 3 can be filtered")
        self.filter = tuple(trigger), tuple(filtered)

    def set_delay(self, channel: int, ps: int) -> None:
        self.delays[channel] = ps

    def set_dead_time(self, channel: int, ps: int) -> int:
        self.dead_times[channel] = -(-ps // 100) * 100
        return self.dead_times[channel]

    def lose(self, begin_ps: int, end_ps: int) -> None:
        self.losses.append((begin_ps, end_ps))


class FakeWorld:
    def __init__(self, rates: dict[int, float], *, seed: int = 1, length_s: float = 2.0) -> None:
        self.now_ps = 0
        self.knobs = SimpleNamespace()
        self.tags = FakeTags(self, rates, seed, length_s)

    def set(self, **changes: Any) -> None:
        raise AssertionError("the tagger changes nothing in the world")

    def vis_power_at_meter_w(self) -> float:
        return 0.0

    def rng(self, source: str) -> np.random.Generator:
        return np.random.default_rng(0)


@dataclass
class Host:
    """Serves one simulated device on a TCP port; a late reply moves the world."""

    world: FakeWorld
    sim: SwabianTimeTaggerSim
    lock: threading.Lock = field(default_factory=threading.Lock)
    left: threading.Condition = field(default_factory=threading.Condition)
    clients_gone: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"vendor://{MODULE}@127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Cut the connection, as a pulled cable does."""
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def wait_for_departures(self, count: int) -> None:
        with self.left:
            assert self.left.wait_for(lambda: self.clients_gone >= count, timeout=5)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._client is not None:
            self._client.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._client = client
            with client:
                self._talk(client)
            self._client = None
            with self.left:
                self.clients_gone += 1
                self.left.notify_all()

    def _talk(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := client.recv(65536):
                with self.lock:
                    replies = self.sim.feed(data)
                    for reply in replies:
                        self.world.now_ps = max(self.world.now_ps, reply.due_ps or 0)
                for reply in replies:
                    client.sendall(reply.data)
        except OSError:
            return
        finally:
            with self.lock:
                self.sim.disconnected()


@dataclass
class FakeClock:
    """Bench time that moves the world."""

    world: FakeWorld
    speed: float = 1.0  # of the tagger's clock against the bench's

    def __post_init__(self) -> None:
        self.now_s = 0.0
        self.sleeps = 0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.now_s += seconds
        self.world.now_ps += round(seconds * self.speed * PS)
