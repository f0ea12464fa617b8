from __future__ import annotations

import importlib
import json
import struct
import threading
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drivers.taggers.sim import swabian_api
from drivers.taggers.sim.swabian_timetagger import SwabianTimeTaggerSim
from drivers.taggers.sim.swabian_wire import pack, take_message, unpack
from drivers.taggers.swabian_blocks import BlockMaker
from drivers.taggers.swabian_timetagger import SwabianTimeTagger
from labctl.instruments.capabilities import TimeTagger, missing_members
from labctl.instruments.errors import (
    CommandRejected,
    DataLoss,
    InstrumentDisconnected,
    InstrumentTimeout,
    LimitExceeded,
    NotReady,
    ProtocolError,
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
    host = Host(world, SwabianTimeTaggerSim(world, "tagger", serial="S1"))
    yield host
    host.close()


@pytest.fixture
def library(host: Host) -> swabian_api.Library:
    return swabian_api.connect("127.0.0.1", host.port)


@pytest.fixture
def api_tagger(library: swabian_api.Library) -> Iterator[swabian_api.TimeTagger]:
    tagger = library.createTimeTagger()
    yield tagger
    library.freeTimeTagger(tagger)


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


# messages


def test_a_message_round_trips_with_aligned_writable_arrays() -> None:
    times, channels = np.array([-5, 2**60]), np.array([1, -5])
    arrays = {"types": np.array([0, 2], np.uint8), "times": times, "channels": channels}
    message = bytearray(pack({"ok": True}, arrays))
    header, back = unpack(message)
    assert header == {"ok": True}
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    assert all(array.flags.aligned and array.flags.writeable for array in back.values())


def test_the_bytes_of_a_message() -> None:
    message = pack({"op": "getSerial"})
    assert message == b'\x14\x00\x00\x00{"op":"getSerial"} \n'
    tags = pack({"ok": True}, {"times": np.array([258]), "channels": np.array([-1])})
    line = b'{"ok":true,"arrays":{"times":1,"channels":1}}'
    assert tags[4:].startswith(line) and (4 + tags[4:].index(b"\n") + 1) % 8 == 0
    assert tags.endswith(b"\n" + struct.pack("<qi", 258, -1))


def test_a_request_split_at_every_byte_is_answered_once(world: FakeWorld) -> None:
    create = pack({"op": "createTimeTagger", "serial": "", "resolution": 0})
    request = create + pack({"op": "getModel"})
    for cut in range(len(request) + 1):
        sim = SwabianTimeTaggerSim(world, "tagger")
        replies = sim.feed(request[:cut]) + sim.feed(request[cut:])
        assert [unpack(reply.data)[0]["value"] for reply in replies] == [None, "Time Tagger Ultra"]
        sim.disconnected()


def test_garbage_is_refused_and_does_not_stay_in_the_line(world: FakeWorld) -> None:
    sim = SwabianTimeTaggerSim(world, "tagger")
    for garbage in (b"\xff\xff\xff\xffabc", b"\x04\x00\x00\x00abc\n", b"\x04\x00\x00\x00abcd"):
        assert not unpack(sim.feed(garbage)[0].data)[0]["ok"]
    assert unpack(sim.feed(pack({"op": "scanTimeTagger", "include_model_name": False}))[0].data)[0]["ok"]


def test_an_incomplete_message_is_left_in_the_buffer() -> None:
    buffer = bytearray(pack({"a": 1})[:-1])
    assert take_message(buffer) is None and len(buffer) == len(pack({"a": 1})) - 1
    assert take_message(bytearray(b"\x01\x00")) is None


# the vendor's names


def test_a_stream_hands_out_every_tag_once(world: FakeWorld, api_tagger: swabian_api.TimeTagger) -> None:
    world.now_ps = 7 * PS // 10
    stream = swabian_api.TimeTagStream(api_tagger, 10**6, [1, -5])
    times, numbers, reads = [], [], []
    for step in (PS // 10, 0, 1, PS // 7):
        world.now_ps += step
        buffer = stream.getData()
        assert buffer.tStart == 7 * PS // 10 and buffer.tGetData == world.now_ps
        assert not buffer.hasOverflows and not buffer.getEventTypes().any()
        times.append(buffer.getTimestamps())
        numbers.append(buffer.getChannels())
        reads.append(buffer.size)
    expected = world.tags.between(7 * PS // 10, world.now_ps, [1, -5])
    assert np.array_equal(np.concatenate(times), expected[0])
    assert np.array_equal(np.concatenate(numbers), expected[1])
    assert sum(reads) == expected[0].size


def test_countrate_and_counter_agree_with_the_tags(
    world: FakeWorld, api_tagger: swabian_api.TimeTagger
) -> None:
    rate = swabian_api.Countrate(api_tagger, [1, 2])
    counter = swabian_api.Counter(api_tagger, channels=[1, 2], binwidth=PS // 100, n_values=5)
    for _ in range(7):
        world.now_ps += PS * 13 // 1000
        counter.getData()
    duration = world.now_ps  # 91 ms: nine complete bins
    times, channels = world.tags.between(0, duration, [1, 2])
    counts = [np.count_nonzero(channels == c) for c in (1, 2)]
    assert rate.getCountsTotal().tolist() == counts
    assert rate.getData() == pytest.approx(np.array(counts) / 0.091)
    bins = [np.bincount(times[channels == c] // (PS // 100), minlength=10) for c in (1, 2)]
    assert np.array_equal(counter.getData(), [b[4:9] for b in bins])
    sweep = counter.getData(rolling=False)
    assert np.array_equal(sweep[0], bins[0][[5, 6, 7, 8, 4]])
    assert counter.getIndex().tolist() == [k * PS // 100 for k in range(5)]


def test_start_for_ends_exactly_and_can_be_waited_for(
    world: FakeWorld, api_tagger: swabian_api.TimeTagger
) -> None:
    rate = swabian_api.Countrate(api_tagger, [1])
    rate.startFor(PS // 20)
    assert not rate.waitUntilFinished(timeout=10)
    assert world.now_ps == PS // 100
    assert rate.waitUntilFinished()
    assert world.now_ps == PS // 20 and not rate.isRunning()
    world.now_ps += PS
    assert rate.getCaptureDuration() == PS // 20
    assert rate.getCountsTotal()[0] == world.tags.between(0, PS // 20, [1])[0].size
    rate.start()
    with pytest.raises(RuntimeError, match="no end"):
        rate.waitUntilFinished()
    rate.clear()
    assert rate.getCountsTotal()[0] == 0 and rate.getCaptureDuration() == 0


def test_a_full_buffer_shows_in_its_size(world: FakeWorld, api_tagger: swabian_api.TimeTagger) -> None:
    stream = swabian_api.TimeTagStream(api_tagger, 100, [1])
    world.now_ps += PS // 10
    assert stream.getCounts() == 100
    buffer = stream.getData()
    assert buffer.size == 100 == buffer.getTimestamps().size and not buffer.hasOverflows


def test_an_overflow_comes_as_events_and_is_counted(
    world: FakeWorld, host: Host, api_tagger: swabian_api.TimeTagger
) -> None:
    stream = swabian_api.TimeTagStream(api_tagger, 10**6, [1, 2])
    second = swabian_api.Countrate(api_tagger, [1])
    world.now_ps = PS // 10
    host.sim.trip("overflow", 0.01)
    world.now_ps = PS * 105 // 1000
    second.getData()
    world.now_ps = PS // 5
    buffer = stream.getData()
    kinds, missed = buffer.getEventTypes(), buffer.getMissedEvents()
    assert buffer.hasOverflows
    assert kinds[kinds > 0].tolist() == [2, 4, 4, 3]
    assert buffer.getTimestamps()[kinds == 2] == PS // 10
    assert buffer.getTimestamps()[kinds == 3] == PS * 11 // 100
    assert missed.sum() == world.tags.between(PS // 10, PS * 11 // 100, [1, 2])[0].size
    assert np.all(np.diff(buffer.getTimestamps()) >= 0)
    assert api_tagger.getOverflows() == 1  # two measurements, one of them in pieces, saw the same overflow
    assert api_tagger.getOverflowsAndClear() == 1 and api_tagger.getOverflows() == 0


def test_more_missed_tags_than_one_event_can_count(
    world: FakeWorld, host: Host, api_tagger: swabian_api.TimeTagger
) -> None:
    from drivers.taggers.sim.swabian_tap import _with_overflows

    none = {"times": np.empty(0, np.int64), "channels": np.empty(0, np.int32)}
    arrays = _with_overflows(none, [(10, 20, {1: 200_000})])
    assert arrays["missed"].astype(int).sum() == 200_000
    with pytest.raises(ValueError, match="no fault 'fire'"):
        host.sim.trip("fire")


@pytest.mark.parametrize("level_v", [0.0, -0.3, 2.01])
def test_a_level_outside_the_pulses_sees_nothing_from_then_on(
    world: FakeWorld, api_tagger: swabian_api.TimeTagger, level_v: float
) -> None:
    stream = swabian_api.TimeTagStream(api_tagger, 10**6, [1, 2])
    world.now_ps = PS // 10
    api_tagger.setTriggerLevel(1, level_v)
    world.now_ps = PS // 5
    buffer = stream.getData()
    times, channels = buffer.getTimestamps(), buffer.getChannels()
    assert times[channels == 1].size == world.tags.between(0, PS // 10, [1])[0].size
    assert times[channels == 1][-1] < PS // 10
    assert times[channels == 2].size == world.tags.between(0, PS // 5, [2])[0].size


def test_a_filter_whose_triggers_see_nothing_lets_nothing_pass(
    world: FakeWorld, api_tagger: swabian_api.TimeTagger
) -> None:
    api_tagger.setConditionalFilter(trigger=[1, 2], filtered=[3])
    assert world.tags.filter == ((1, 2), (3,))
    api_tagger.setTriggerLevel(1, 2.4)
    assert world.tags.filter == ((2,), (3,))
    api_tagger.setTriggerLevel(2, 2.4)
    rate = swabian_api.Countrate(api_tagger, [3])
    world.now_ps += PS // 10
    assert rate.getCountsTotal()[0] == 0
    assert api_tagger.getConditionalFilterTrigger() == (1, 2)
    api_tagger.clearConditionalFilter()
    assert world.tags.filter == ((), ())
    api_tagger.setTriggerLevel(1, 0.5)
    with pytest.raises(RuntimeError, match="only channel 3"):
        api_tagger.setConditionalFilter([1], [2])
    assert api_tagger.getConditionalFilterTrigger() == ()


def test_test_signal_and_event_divider(world: FakeWorld, api_tagger: swabian_api.TimeTagger) -> None:
    api_tagger.setTestSignal([7, 1], True)
    api_tagger.setEventDivider(2, 3)
    assert api_tagger.getTestSignal(7) and api_tagger.getEventDivider(2) == 3
    rate = swabian_api.Countrate(api_tagger, [1, 2, 7, 8])
    for _ in range(10):
        world.now_ps += PS // 100
        rate.getData()
    counts = rate.getCountsTotal()
    assert counts[0] == counts[2] == PS // 10 // 1_250_000
    assert counts[1] == world.tags.between(0, PS // 10, [2])[0].size // 3
    assert counts[3] == 0  # no cable
    api_tagger.setTestSignal(7, False)
    assert not api_tagger.getTestSignal(7)


def test_reading_out_the_tagger(library: swabian_api.Library, api_tagger: swabian_api.TimeTagger) -> None:
    assert api_tagger.getChannelList() == (1, 2, 3, 4, 5, 6, 7, 8, -1, -2, -3, -4, -5, -6, -7, -8)
    assert api_tagger.getChannelList(swabian_api.ChannelEdge.Falling) == (-1, -2, -3, -4, -5, -6, -7, -8)
    assert api_tagger.getInvertedChannel(5) == -5
    assert api_tagger.getInvertedChannel(50) == swabian_api.CHANNEL_UNUSED
    assert api_tagger.isUnusedChannel(library.CHANNEL_UNUSED) and not api_tagger.isUnusedChannel(1)
    assert api_tagger.getPcbVersion() and api_tagger.getSensorData() == []
    assert api_tagger.setDeadtime(1, 50_001) == 50_100 == api_tagger.getDeadtime(1)
    assert api_tagger.setDeadtime(7, 0) == 2_100 == api_tagger.getDeadtime(8)
    api_tagger.setInputDelay(1, -1300)
    assert api_tagger.getInputDelay(1) == -1300
    configuration = api_tagger.getConfiguration()
    assert configuration["inputs"][0]["delay"] == -1300 and json.dumps(configuration)
    assert api_tagger.sync() and library.getVersion()
    for refused in (
        lambda: api_tagger.setTriggerLevel(1, 5.0),
        lambda: api_tagger.setTriggerLevel(9, 0.5),
        lambda: api_tagger.setDeadtime(1, 10**12),
        lambda: api_tagger.setEventDivider(1, 0),
        lambda: api_tagger.connection.value("explode"),
    ):
        with pytest.raises(RuntimeError):
            refused()


def test_a_tagger_is_found_opened_once_and_freed(host: Host, library: swabian_api.Library) -> None:
    assert library.scanTimeTagger() == ("S1",)
    assert library.scanTimeTagger(include_model_name=True) == ("S1,Time Tagger Ultra",)
    with pytest.raises(RuntimeError, match="No Time Tagger attached or already in use"):
        library.createTimeTagger("other")
    tagger = library.createTimeTagger(serial="S1", resolution=library.Resolution.Standard)
    stream = library.TimeTagStream(tagger, 1000, [1])
    library.freeTimeTagger(tagger)
    host.wait_for_departures(4)
    assert not any(s.open for s in host.world.tags.subscriptions) and host.sim.state()["streams"] == 0
    with pytest.raises(ConnectionError):
        stream.getData()


def test_nobody_at_the_port() -> None:
    library = swabian_api.connect("127.0.0.1", 1)
    assert library.scanTimeTagger() == ()
    with pytest.raises(RuntimeError, match="No Time Tagger attached"):
        library.createTimeTagger()


# the driver


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


def test_an_answer_split_at_every_byte_is_whole(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> None:
    """The client puts an answer together from single bytes."""
    message = pack({"ok": True, "value": 3}, {"times": np.arange(4), "channels": np.arange(4)})

    class Dribble:
        def __init__(self) -> None:
            self.left = bytearray(message)

        def settimeout(self, timeout: float) -> None: ...

        def setsockopt(self, *options: int) -> None: ...

        def sendall(self, data: bytes) -> None: ...

        def close(self) -> None: ...

        def recv_into(self, view: memoryview) -> int:
            view[0] = self.left.pop(0)
            return 1

    monkeypatch.setattr(swabian_api.socket, "create_connection", lambda *a, **k: Dribble())
    header, arrays = swabian_api.Connection("x", 1).ask("take")
    assert header["value"] == 3 and arrays["times"].tolist() == [0, 1, 2, 3]


# buffers of a misbehaving tagger, through the driver


def buffer(times: list[int], now: int, *, kinds: list[int] | None = None, **changes: Any) -> SimpleNamespace:
    kinds = kinds or [0] * len(times)
    arrays = {
        "getTimestamps": np.array(times, np.int64),
        "getChannels": np.array(changes.pop("channels", [1] * len(times)), np.int32),
        "getEventTypes": np.array(kinds, np.uint8),
        "getMissedEvents": np.array(changes.pop("missed", [0] * len(times)), np.uint16),
    }
    getters = {name: (lambda array=array: array) for name, array in arrays.items()}
    fields = {"size": len(times), "hasOverflows": any(kinds), "tStart": 100, "tGetData": now, **changes}
    return SimpleNamespace(**fields, **getters)


def maker(duration_ps: int = 1000, capacity: int = 100) -> BlockMaker:
    return BlockMaker("t", swabian_api.TagType, capacity=capacity, duration_ps=duration_ps, epoch=3)


def test_tags_beyond_a_watermark_wait_for_the_next_block() -> None:
    blocks = maker()
    first = blocks.convert(buffer([150, 200, 210], 200))
    second = blocks.convert(buffer([220], 300))
    assert first is not None and second is not None
    assert first.times_ps.tolist() == [150] and second.times_ps.tolist() == [200, 210, 220]
    assert blocks.convert(buffer([], 300)) is None and blocks.remaining_ps == 800
    last = blocks.convert(buffer([1099, 1100], 5000))
    assert last is not None and last.times_ps.tolist() == [1099] and last.end_ps == 1100


@pytest.mark.parametrize(
    "bad", [buffer([150, 140], 200), buffer([99], 200), buffer([], 50)], ids=["unsorted", "early", "back"]
)
def test_tags_out_of_order_are_an_error(bad: SimpleNamespace) -> None:
    with pytest.raises(ProtocolError, match="not in time order"):
        maker().convert(bad)


def test_an_unsorted_tail_beyond_the_end_is_an_error_too() -> None:
    with pytest.raises(ProtocolError):
        maker(50).convert(buffer([120, 160, 140], 200))


def test_an_overflow_that_lasts_longer_than_its_buffer() -> None:
    blocks = maker()
    begun = buffer([120, 150, 150], 200, kinds=[0, 2, 4], channels=[1, 0, 2], missed=[0, 0, 7])
    first = blocks.convert(begun)
    second = blocks.convert(buffer([], 300))
    third = blocks.convert(buffer([330, 350], 400, kinds=[3, 0], channels=[0, 1]))
    assert first is not None and second is not None and third is not None
    assert first.gaps == (Gap(150, 200, {2: 7}),) and first.times_ps.tolist() == [120]
    assert second.gaps == (Gap(200, 300),) and third.gaps == (Gap(300, 330),)
    assert third.times_ps.tolist() == [350]


@pytest.mark.parametrize(
    "spoilt",
    [
        buffer([150], 200, kinds=[4], channels=[2], missed=[7]),
        buffer([150], 200, hasOverflows=True),
    ],
)
def test_a_loss_without_a_place_spoils_the_whole_buffer(spoilt: SimpleNamespace) -> None:
    block = maker().convert(spoilt)
    assert block is not None and block.live_time_ps == 0


def test_a_full_buffer_that_ends_within_an_overflow_counts_the_time_once() -> None:
    block = maker(capacity=2).convert(buffer([120, 150], 200, kinds=[0, 2]))
    assert block is not None and block.live_time_ps == 50


def test_an_error_event_is_data_loss() -> None:
    with pytest.raises(DataLoss, match="reference clock"):
        maker().convert(buffer([150], 200, kinds=[1]))


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
