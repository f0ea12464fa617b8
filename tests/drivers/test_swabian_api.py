from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from drivers.taggers.sim import swabian_api
from drivers.taggers.sim.swabian_timetagger import SwabianTimeTaggerSim
from drivers.taggers.sim.swabian_wire import pack, take_message, unpack
from tests.drivers.swabian_bench import PS, FakeWorld, Host

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
def api_tagger(library: swabian_api.Library) -> Iterator[swabian_api.TimeTagger]:
    tagger = library.createTimeTagger()
    yield tagger
    library.freeTimeTagger(tagger)


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
        sim = SwabianTimeTaggerSim(cast(Any, world), "tagger")
        replies = sim.feed(request[:cut]) + sim.feed(request[cut:])
        assert [unpack(reply.data)[0]["value"] for reply in replies] == [None, "Time Tagger Ultra"]
        sim.disconnected()


def test_garbage_is_refused_and_does_not_stay_in_the_line(world: FakeWorld) -> None:
    sim = SwabianTimeTaggerSim(cast(Any, world), "tagger")
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

    none: dict[str, Any] = {"times": np.empty(0, np.int64), "channels": np.empty(0, np.int32)}
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
