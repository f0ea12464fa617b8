from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest

from drivers.taggers.sim import swabian_api
from drivers.taggers.sim.swabian_timetagger import SwabianTimeTaggerSim
from drivers.taggers.swabian_timetagger import SwabianTimeTagger
from labctl.instruments.capabilities import TimeTagger, missing_members
from labctl.instruments.errors import (
    CommandRejected,
    DataLoss,
    InstrumentDisconnected,
    InstrumentTimeout,
    LimitExceeded,
    NotReady,
    VendorLibraryMissing,
)
from labctl.timetags.block import Gap, TagBlock
from tests.drivers.swabian_bench import PS, FakeClock, FakeWorld, Host

RATES = {1: 20_000.0, 2: 20_000.0, 3: 20_000.0, 5: 500.0, -5: 500.0}


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld(RATES)


@pytest.fixture
def host(world: FakeWorld) -> Iterator[Host]:
    host = Host(world, SwabianTimeTaggerSim(cast(Any, world), "tagger", serial="S1"))
    yield host
    host.close()


@pytest.fixture
def library(host: Host) -> swabian_api.Library:
    return swabian_api.connect("127.0.0.1", host.port)


@pytest.fixture
def clock(world: FakeWorld) -> FakeClock:
    return FakeClock(world)


@pytest.fixture
def tagger(host: Host, clock: FakeClock) -> Iterator[SwabianTimeTagger]:
    tagger = SwabianTimeTagger("tagger", host.address, clock=clock)
    tagger.start("S1")
    yield tagger
    tagger.close()


def joined(blocks: list[TagBlock]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([b.times_ps for b in blocks]), np.concatenate([b.channels for b in blocks])


def test_the_driver_has_the_capability(tagger: SwabianTimeTagger) -> None:
    assert missing_members(tagger, TimeTagger) == []
    identity = tagger.identity()
    assert (identity.model, identity.serial) == ("Time Tagger Ultra", "S1")
    assert tagger.get_idn()["vendor"] == "Swabian Instruments"
    assert json.dumps(tagger.snapshot(update=True))
    assert all(parameter.__doc__ for parameter in tagger.parameters.values())


@pytest.mark.parametrize("slice_s", [0.1, 0.25, 0.0133, 5.0])
def test_blocks_cover_the_time_exactly_and_keep_every_tag(
    tagger: SwabianTimeTagger, world: FakeWorld, slice_s: float
) -> None:
    world.now_ps = 123_456_789
    blocks = list(tagger.stream([1, 3, -5], 0.25, slice_s))
    assert blocks[0].begin_ps == 123_456_789
    assert blocks[-1].end_ps == 123_456_789 + PS // 4 == world.now_ps
    assert all(a.end_ps == b.begin_ps for a, b in pairwise(blocks))
    times, channels = joined(blocks)
    expected = world.tags.between(123_456_789, world.now_ps, [1, 3, -5])
    assert np.array_equal(times, expected[0]) and np.array_equal(channels, expected[1])
    assert {b.epoch for b in blocks} == {1} and not any(b.gaps for b in blocks)
    assert world.tags.subscriptions[-1].open is False


@pytest.mark.parametrize("speed", [0.93, 1.08])
def test_a_tagger_clock_that_differs_from_the_bench_clock(
    tagger: SwabianTimeTagger, world: FakeWorld, clock: FakeClock, speed: float
) -> None:
    clock.speed = speed
    blocks = list(tagger.stream([1, 2], 0.3))
    assert sum(b.duration_ps for b in blocks) == PS * 3 // 10
    expected = world.tags.between(0, PS * 3 // 10, [1, 2])
    assert np.array_equal(joined(blocks)[0], expected[0])
    assert clock.sleeps < 20


def test_successive_streams_share_no_tag(tagger: SwabianTimeTagger, world: FakeWorld) -> None:
    blocks = [b for _ in range(3) for b in tagger.stream([1, 2], 0.1, 0.03)]
    assert np.array_equal(joined(blocks)[0], world.tags.between(0, 3 * PS // 10, [1, 2])[0])


def test_a_closed_generator_stops_the_stream(tagger: SwabianTimeTagger, world: FakeWorld) -> None:
    blocks = tagger.stream([1], 1.0)
    next(blocks)
    assert world.tags.subscriptions[-1].open and "1 streams" in tagger.state_text()
    blocks.close()  # type: ignore[attr-defined]
    assert not world.tags.subscriptions[-1].open and "0 streams" in tagger.state_text()


def test_an_overflow_is_a_gap_also_across_blocks(
    tagger: SwabianTimeTagger, world: FakeWorld, host: Host
) -> None:
    world.now_ps = PS // 100
    world.tags.lose(PS // 10, PS * 15 // 100)
    blocks = list(tagger.stream([1, 2], 0.3))
    begin, lost = PS // 100, PS // 20
    gaps = [gap for block in blocks for gap in block.gaps]
    assert [(g.begin_ps, g.end_ps) for g in gaps] == [
        (PS // 10, begin + PS // 10),
        (begin + PS // 10, PS * 15 // 100),
    ]
    missed = world.tags.between(PS // 10, PS * 15 // 100, [1, 2])[0].size
    assert sum(sum(g.missed.values()) for g in gaps) == missed
    assert sum(b.live_time_ps for b in blocks) == PS * 3 // 10 - lost
    times = joined(blocks)[0]
    assert times.size + missed == world.tags.between(begin, begin + PS * 3 // 10, [1, 2])[0].size
    assert tagger.overflows() == 1


def test_a_full_stream_buffer_is_a_gap(host: Host, clock: FakeClock, world: FakeWorld) -> None:
    tagger = SwabianTimeTagger("small", host.address, clock=clock, stream_buffer=1000)
    tagger.start()
    try:
        (block,) = tagger.stream([1, 2], 0.1)
        assert len(block) == 1000
        assert block.gaps == (Gap(int(block.times_ps[-1]) + 1, PS // 10),)
        assert not any(b.gaps for b in tagger.stream([1, 2], 0.1, 0.01))
    finally:
        tagger.close()


def test_count_rates_leave_gaps_out(tagger: SwabianTimeTagger, world: FakeWorld) -> None:
    world.tags.lose(0, PS // 4)
    rates = tagger.count_rates([1, 5, 7], 0.5)
    kept = world.tags.between(PS // 4, PS // 2, [1])[0].size
    assert rates[1] == pytest.approx(kept / 0.25) and rates[7] == 0.0
    world.tags.lose(PS // 2, PS)
    with pytest.raises(DataLoss, match="all tags were lost"):
        tagger.count_rates([1], 0.25)


def test_settings_reach_the_tagger(tagger: SwabianTimeTagger, world: FakeWorld) -> None:
    tagger.set_trigger(1, 0.25)
    tagger.set_delay(2, -1300)
    tagger.set_conditional_filter([1, 2], [3])
    assert tagger.trigger_levels()[1] == 0.25
    assert world.tags.delays[2] == -1300
    assert tagger.set_dead_time(1, 50_010) == 50_100
    assert world.tags.filter == ((1, 2), (3,))
    tagger.set_conditional_filter([], [3])
    assert world.tags.filter == ((), ())


def test_out_of_limits_raises_before_anything_is_sent(tagger: SwabianTimeTagger, world: FakeWorld) -> None:
    before = world.now_ps, len(world.tags.subscriptions), dict(world.tags.delays)
    for refused in (
        lambda: tagger.set_trigger(1, 2.6),
        lambda: tagger.set_trigger(11, 0.5),
        lambda: tagger.set_delay(-11, 0),
        lambda: tagger.set_dead_time(1, -1),
        lambda: tagger.set_conditional_filter([99], [3]),
        lambda: tagger.stream([], 1.0),
        lambda: tagger.stream([44], 1.0),
        lambda: tagger.stream([1], 0.0),
        lambda: tagger.stream([1], 1.0, 0.0),
    ):
        with pytest.raises(LimitExceeded, match="tagger: "):
            refused()
    assert before == (world.now_ps, len(world.tags.subscriptions), dict(world.tags.delays))


def test_a_refused_command_leaves_the_next_answer_right(tagger: SwabianTimeTagger) -> None:
    with pytest.raises(CommandRejected, match="only channel 3") as caught:
        tagger.set_conditional_filter([1], [2])
    assert caught.value.code == "RuntimeError" and "setConditionalFilter" in str(caught.value)
    assert tagger.identity().serial == "S1"


def test_establish_inherits_nothing(host: Host, clock: FakeClock, world: FakeWorld) -> None:
    tagger = SwabianTimeTagger(
        "clean",
        host.address,
        clock=clock,
        serial="S1",
        trigger_levels={1: 0.2, 5: 1.0},
        input_delays_ps={1: 1300, 5: 40, -5: 70},
        dead_times_ps={1: 60_000},
        conditional_filter=([1], [3]),
    )
    raw = tagger._tagger
    for channel in range(1, 9):
        raw.setTriggerLevel(channel, -1.0)
        raw.setTestSignal(channel, True)
        raw.setInputDelay(channel, 999)
        raw.setDeadtime(channel, 10**6)
        raw.setEventDivider(channel, 7)
    raw.setConditionalFilter([2], [3])
    try:
        tagger.start()
        assert tagger.trigger_levels() == {1: 0.2, 5: 1.0, **dict.fromkeys((2, 3, 4, 6, 7, 8), 0.5)}
        assert world.tags.delays == {1: 1300, 2: 0, 3: 0, 4: 0, 5: 40, -5: 70, 6: 0}
        assert [raw.getDeadtime(c) for c in (1, 2)] == [60_000, 2_100]
        assert not any(raw.getTestSignal(c) for c in range(1, 9))
        assert {raw.getEventDivider(c) for c in tagger.channels()} == {1}
        assert world.tags.filter == ((1,), (3,))
        assert tagger.overflows() == 0
    finally:
        tagger.close()


def test_a_lost_connection_and_reconnect(tagger: SwabianTimeTagger, host: Host, world: FakeWorld) -> None:
    blocks = tagger.stream([1], 1.0)
    assert next(blocks).epoch == 1
    host.drop()
    with pytest.raises(InstrumentDisconnected, match="check power and cable"):
        next(blocks)
    assert tagger.safe().safe
    host.wait_for_departures(1)
    assert host.sim.state()["streams"] == 0
    tagger.reconnect()
    assert next(tagger.stream([1], 0.1)).epoch == 2


def test_safe_stops_streams_and_can_be_repeated(tagger: SwabianTimeTagger, world: FakeWorld) -> None:
    blocks = tagger.stream([1], 1.0)
    next(blocks)
    assert tagger.safe().safe and tagger.safe().safe
    assert not world.tags.subscriptions[-1].open
    with pytest.raises(NotReady, match="was stopped"):
        next(blocks)


def test_close_frees_the_tagger_for_the_next_client(host: Host, clock: FakeClock) -> None:
    for _ in range(2):
        tagger = SwabianTimeTagger("again", host.address, clock=clock)
        tagger.start()
        tagger.close()
        tagger.close()
        with pytest.raises(InstrumentDisconnected, match="is closed"):
            tagger.identity()


def test_two_threads_get_their_own_answers(tagger: SwabianTimeTagger) -> None:
    wrong: list[Any] = []

    def levels() -> None:
        wrong.extend(x for x in (tagger.trigger_levels() for _ in range(30)) if set(x.values()) != {0.5})

    worker = threading.Thread(target=levels)
    worker.start()
    wrong.extend(s for s in (tagger.identity().serial for _ in range(60)) if s != "S1")
    worker.join()
    assert not wrong


def test_a_tagger_whose_time_stands_still(tagger: SwabianTimeTagger, clock: FakeClock) -> None:
    clock.speed = 0.0
    with pytest.raises(InstrumentTimeout, match="stands still"):
        next(tagger.stream([1], 1.0))


# addresses


@pytest.mark.parametrize("address", ["tcp://x:1", "vendor://", "vendor://m@host", "vendor://@h:1"])
def test_an_address_that_names_no_tagger(address: str) -> None:
    with pytest.raises(InstrumentDisconnected, match="in the bench file"):
        SwabianTimeTagger("bad", address)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(VendorLibraryMissing, match="pip install Swabian-TimeTagger"):
        SwabianTimeTagger("bare", "swabian:")
    with pytest.raises(VendorLibraryMissing, match="cannot be imported"):
        SwabianTimeTagger("bare", "vendor://nowhere@127.0.0.1:1")


def test_the_vendor_library_is_found_under_both_names(
    monkeypatch: pytest.MonkeyPatch, library: swabian_api.Library
) -> None:
    def old_installer(name: str) -> Any:
        if name == "TimeTagger":
            return library
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", old_installer)
    tagger = SwabianTimeTagger("usb", "swabian:S1")
    assert tagger.identity().serial == "S1"
    tagger.close()
    with pytest.raises(InstrumentDisconnected, match="No Time Tagger attached"):
        SwabianTimeTagger("usb", "swabian:S2")
