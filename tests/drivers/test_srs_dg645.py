"""The DG645: command language, electrical state, driver bytes, and both over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from drivers.delays.sim.srs_dg645 import SrsDg645Sim
from drivers.delays.srs_dg645 import SrsDg645, whole_lines
from labctl.instruments.errors import (
    CommandRejected,
    InstrumentDisconnected,
    InstrumentTimeout,
    ProtocolError,
)
from labctl.twin.knobs import PulseTrain
from tests.drivers.dg645_host import FakeWorld, TcpHost

MS = 1_000_000_000


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def sim(world: FakeWorld) -> SrsDg645Sim:
    return SrsDg645Sim(world, "dg")


@pytest.fixture
def host(sim: SrsDg645Sim) -> Iterator[TcpHost]:
    host = TcpHost(sim)
    yield host
    host.close()


@pytest.fixture
def dg(host: TcpHost) -> Iterator[SrsDg645]:
    dg = SrsDg645("dg", host.address)
    dg.start("DG645")
    yield dg
    dg.close()


def talk(sim: SrsDg645Sim, text: str) -> str:
    return b"".join(reply.data for reply in sim.feed(text.encode())).decode()


# the simulator alone


def test_golden_transcript(sim: SrsDg645Sim) -> None:
    assert talk(sim, "DLAY 2,0,1e-6\n") == ""
    assert talk(sim, "LERR?\n") == "0\r\n"
    assert talk(sim, "DLAY?2\n") == "0,+0.000001000000\r\n"
    assert talk(sim, "DLAY 0,0,1\n") == ""
    assert talk(sim, "LERR?\n") in ("12\r\n", "13\r\n")
    assert talk(sim, "LERR?\n") == "0\r\n"
    assert talk(sim, "*IDN?\n") == "Stanford Research Systems,DG645,s/n001234,ver1.10.150E\r\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("FOO 1", 111),
        ("FOO?", 111),
        ("*IDN", 113),
        ("*CLS?", 112),
        ("TSRC 7", 10),
        ("TSRC", 116),
        ("TSRC 1,2", 115),
        ("TSRC x", 120),
        ("TRAT x", 118),
        ("TRAT nan", 118),
        ("LOFF 1,", 114),
        ("LOFF 9,1", 10),
        ("LOFF 1,2.01", 10),
        ("DLAY 2,0,2001", 12),
        ("DLAY 2,0,-1e-9", 12),
        ("LINK 2,2", 13),
        ("LINK 2,1", 13),
        ("=", 126),
    ],
)
def test_refused_commands(sim: SrsDg645Sim, command: str, code: int) -> None:
    assert talk(sim, f"{command}\nLERR?\nLERR?\n") == f"{code}\r\n0\r\n"


def test_link_loops_are_refused(sim: SrsDg645Sim) -> None:
    talk(sim, "LINK 3,2;LINK 4,3;LINK 2,4\n")
    assert talk(sim, "LERR?;LINK?2;LINK?4\n") == "13\r\n0\r\n3\r\n"


def test_error_queue_holds_twenty(sim: SrsDg645Sim) -> None:
    talk(sim, "FOO\n" * 25)
    codes = [talk(sim, "LERR?\n") for _ in range(21)]
    assert codes == ["111\r\n"] * 19 + ["254\r\n", "0\r\n"]


def test_delays_lie_on_the_grid(sim: SrsDg645Sim) -> None:
    assert talk(sim, "DLAY 2,0,1.0000003e-6;DLAY?2\n") == "0,+0.000001000000\r\n"
    assert talk(sim, "BURD 1.234e-12;BURD?\nBURD 2.6e-12;BURD?\n") == "+0.000000000000\r\n+0.000000000005\r\n"


@pytest.mark.parametrize("cut", range(1, 20))
def test_commands_in_any_slicing(sim: SrsDg645Sim, cut: int) -> None:
    text = "LOFF 1,0.5;LOFF?1\n"
    assert talk(sim, text[:cut]) + talk(sim, text[cut:]) == "+0.50\r\n"


BURST = "TSRC 1;BURM 1;BURC 2495;BURP 400e-9;BURD 100e-9;DLAY 2,0,1e-9;DLAY 3,2,20e-9\n"


def test_burst_of_external_triggers(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, BURST)
    assert world.knobs.diode_train == PulseTrain(400_000, 2495, 101_000, "mir_trigger")
    talk(sim, "BURM 0\n")
    assert world.knobs.diode_train == PulseTrain(MS, 1, 1_000, "mir_trigger")
    talk(sim, "TSRC 2\n")
    assert world.knobs.diode_train == PulseTrain(MS, 1, 1_001_000, "mir_trigger")


def test_internal_trigger_runs_freely(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, "DLAY 3,2,20e-9;TRAT 2.5e6;TSRC 0\n")
    assert world.knobs.diode_train == PulseTrain(400_000, None, 0, "internal")


@pytest.mark.parametrize(
    "change", ["TSRC 5", "TSRC 3", "INHB 1", "INHB 2", "INHB 5", "DLAY 2,0,30e-9;DLAY 3,0,20e-9", "TLVL -1"]
)
def test_no_pulses(sim: SrsDg645Sim, world: FakeWorld, change: str) -> None:
    talk(sim, BURST)
    talk(sim, f"{change}\n")
    assert world.knobs.diode_train is None


def test_nothing_connected_to_the_trigger(world: FakeWorld) -> None:
    talk(SrsDg645Sim(world, "dg", trigger=""), BURST)
    assert world.knobs.diode_train is None


def test_levels_are_offsets_and_pulses_do_not_count(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, BURST + "LAMP 3,5;LOFF 2,2;LOFF 3,0.5\n")
    assert (world.knobs.diode_gate_v, world.knobs.mir_gate_v) == (2.0, 0.5)


def test_wiring_options(world: FakeWorld) -> None:
    sim = SrsDg645Sim(world, "dg", diode_output="GH", diode_gate_output=None, mir_gate_output="AB")
    talk(sim, "TSRC 0;TRAT 1e6;DLAY 8,0,5e-9;DLAY 9,8,5e-9;LOFF 1,1;LOFF 2,2\n")
    assert world.knobs.diode_train == PulseTrain(1_000_000, None, 5_000, "internal")
    assert (world.knobs.diode_gate_v, world.knobs.mir_gate_v) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no output 'XY'"):
        SrsDg645Sim(world, "dg", diode_output="XY")


def rate_error(sim: SrsDg645Sim) -> bool:
    return bool(int(talk(sim, "INSR?\n")) & 2)


def test_rate_bit_when_the_burst_does_not_fit(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, BURST)
    assert not rate_error(sim)
    talk(sim, "BURC 2501\n")
    assert rate_error(sim)
    assert world.knobs.diode_train is None
    world.now_ps = MS
    talk(sim, "BURC 2495\n")
    assert rate_error(sim), "a trigger was missed, which is kept until it is read"
    assert not rate_error(sim)


def test_cycles_longer_than_the_burst_period_are_left_out(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, BURST)
    talk(sim, "DLAY 9,0,500e-9\n")
    assert rate_error(sim)
    assert world.knobs.diode_train == PulseTrain(800_000, 1248, 101_000, "mir_trigger")


def test_internal_triggers_faster_than_the_cycle_are_left_out(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, "TSRC 0;TRAT 1e6;DLAY 3,0,20e-9;HOLD 2.5e-6\n")
    assert rate_error(sim)
    assert world.knobs.diode_train == PulseTrain(3_000_000, None, 0, "internal")


def test_status_bits_follow_the_world(sim: SrsDg645Sim, world: FakeWorld) -> None:
    talk(sim, BURST)
    talk(sim, "INSR?\n")
    world.now_ps = 999_999_999
    assert talk(sim, "INSR?\n") == "0\r\n"
    world.now_ps = MS
    assert talk(sim, "INSR?\n") == f"{1 + 4 + 8}\r\n"


def test_state_and_unknown_fault(sim: SrsDg645Sim) -> None:
    talk(sim, BURST)
    assert sim.state()["edges_ps"]["B"] == 21_000
    with pytest.raises(ValueError, match="no fault 'fire'"):
        sim.trip("fire")


# the driver alone


class Scripted:
    """A transport that expects exact bytes and answers each with bytes that are at hand at once."""

    def __init__(self, script: list[tuple[bytes, bytes]]) -> None:
        self.script = script
        self.pending = b""
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if data == b"\n":
            return
        expected, answer = self.script.pop(0)
        assert data == expected
        self.pending += answer

    def read(self, timeout_s: float) -> bytes:
        data, self.pending = self.pending, b""
        return data

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SrsDg645, list[tuple[bytes, bytes]]]]:
    script: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("labctl.instruments.link.open_transport", lambda *_: Scripted(script))
    dg = SrsDg645("dg", "tcp://nowhere:1", timeout_s=0.05)
    yield dg, script
    assert not script
    dg.close()


OK = (b"LERR?\n", b"0\r\n")


def test_driver_bytes(scripted: tuple[SrsDg645, list[tuple[bytes, bytes]]]) -> None:
    dg, script = scripted
    script += [(b"*CLS\n", b""), (b"LERR?\n", b"111\r\n"), OK]
    dg.establish()
    script += [(b"DLAY?2\n", b"0,+0.000000000000\r\n"), (b"DLAY 2,0,0.000001000000\n", b""), OK]
    dg.channel_a.delay(1e-6)
    script += [(b"LINK 3,2\n", b""), OK, (b"LINK?3\n", b"2\r\n")]
    dg.channel_b.reference("A")
    assert dg.channel_b.reference() == "A"
    script += [(b"LOFF 3,2.00\n", b""), OK, (b"LAMP 1,2.50\n", b""), OK, (b"LPOL 4,0\n", b""), OK]
    dg.output_ef.offset(2.0)
    dg.output_ab.amplitude(2.5)
    dg.output_gh.polarity("negative")
    script += [(b"TSRC 1\n", b""), OK, (b"TRAT 2500000.000000\n", b""), OK, (b"BURC 2495\n", b""), OK]
    dg.trigger_source("external_rising")
    dg.trigger_rate(2.5e6)
    dg.burst_count(2495)
    script += [(b"BURP 0.000000400000\n", b""), OK, (b"BURM 1\n", b""), OK, (b"INHB 3\n", b""), OK]
    dg.burst_period(400e-9)
    dg.burst(True)
    dg.inhibit("AB_CD")
    script += [(b"INSR?\n", b"66\r\n")]
    status = dg.status()
    assert status.rate_error and status.pll_unlocked and not status.triggered


def test_values_out_of_limits_are_not_sent(scripted: tuple[SrsDg645, list[tuple[bytes, bytes]]]) -> None:
    dg, _ = scripted
    for parameter, value in [
        (dg.channel_a.delay, 2001),
        (dg.output_ab.amplitude, 0.4),
        (dg.output_ab.offset, -2.5),
        (dg.trigger_rate, 2e7),
        (dg.trigger_source, "sometimes"),
        (dg.channel_a.reference, "A"),
        (dg.burst_count, 0),
        (dg.burst_period, 50e-9),
    ]:
        with pytest.raises((ValueError, TypeError), match=parameter.name):
            parameter(value)
    assert dg._wire.bytes_sent == 0


@pytest.mark.parametrize("answer", [b"abc\r\n", b"\r\n", b"0\r\n1\r\n", b"1.5\r\n", b"9\r\n", b"\xff\r\n"])
def test_answers_that_do_not_fit(scripted: tuple[SrsDg645, list[tuple[bytes, bytes]]], answer: bytes) -> None:
    dg, script = scripted
    script += [(b"TSRC?\n", answer), (b"TSRC?\n", b"5\r\n")]
    with pytest.raises(ProtocolError, match=r"dg: .*TSRC\?"):
        dg.trigger_source()
    assert dg.trigger_source() == "single"


@pytest.mark.parametrize("length", range(20))
def test_truncated_answers_are_never_values(
    scripted: tuple[SrsDg645, list[tuple[bytes, bytes]]], length: int
) -> None:
    dg, script = scripted
    whole = b"0,+0.000001000000\r\n"
    script += [(b"DLAY?2\n", whole[:length])]
    if length == len(whole):
        assert dg.channel_a.delay() == 1e-6
    else:
        with pytest.raises(InstrumentTimeout):
            dg.channel_a.delay()


def test_an_error_queue_without_end(scripted: tuple[SrsDg645, list[tuple[bytes, bytes]]]) -> None:
    dg, script = scripted
    script += [(b"LERR?\n", b"111\r\n")] * 21
    with pytest.raises(ProtocolError, match="0 after 20 errors"):
        dg.check_errors()


def test_framer_keeps_the_unfinished_rest() -> None:
    buffer = bytearray(b"1\r\n2\r\n3")
    assert whole_lines(buffer) == b"1\r\n2"
    assert buffer == b"3"
    assert whole_lines(buffer) is None


def test_parts_keep_their_parameters(scripted: tuple[SrsDg645, list[tuple[bytes, bytes]]]) -> None:
    dg, _ = scripted
    with pytest.raises(AttributeError, match="is a parameter"):
        dg.channel_a.delay = 1e-6
    with pytest.raises(AttributeError, match="is a parameter"):
        dg.output_ab.offset = 1.0


# driver and simulator over a socket


def test_identity_and_state(dg: SrsDg645) -> None:
    assert str(dg.identity()) == "Stanford Research Systems DG645, s/n 001234, firmware 1.10.150E"
    assert dg.state_text().startswith("trigger single, burst off, levels T0 0 V")


def test_every_settable_parameter_comes_back(dg: SrsDg645) -> None:
    round_trips = {
        dg.channel_a.delay: 1.23e-6,
        dg.channel_h.reference: "A",
        dg.output_gh.amplitude: 3.21,
        dg.output_gh.offset: -1.5,
        dg.output_t0.polarity: "negative",
        dg.trigger_source: "line",
        dg.trigger_rate: 1234.5,
        dg.trigger_level: 0.75,
        dg.holdoff: 1e-3,
        dg.inhibit: "AB_CD_EF",
        dg.burst: True,
        dg.burst_count: 17,
        dg.burst_delay: 123.455e-9,
        dg.burst_period: 400e-9,
        dg.burst_t0: True,
    }
    for parameter, value in round_trips.items():
        parameter(value)
    for parameter, value in round_trips.items():
        assert parameter() == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)
    assert dg.channel_a.delay.unit == "s"
    for part in (dg, dg.channel_a, dg.output_ab):
        assert all(parameter.__doc__ for parameter in part.parameters.values())
    dg.snapshot(update=True)


def test_setting_a_delay_keeps_the_reference(dg: SrsDg645, sim: SrsDg645Sim) -> None:
    dg.channel_a.delay(1e-6)
    dg.channel_b.reference("A")
    dg.channel_b.delay(20e-9)
    assert sim.state()["edges_ps"]["B"] == 1_020_000


def test_rejected_value_and_the_next_query(dg: SrsDg645) -> None:
    dg.channel_b.reference("A")
    with pytest.raises(CommandRejected, match=r"dg: refused: illegal link \(13\).*LINK 2,3") as caught:
        dg.channel_a.reference("B")
    assert caught.value.code == 13
    assert dg.channel_b.reference() == "A"
    assert dg.channel_a.reference() == "T0"


def test_modes_left_by_others(sim: SrsDg645Sim, host: TcpHost) -> None:
    talk(sim, "FOO\n" * 20 + "LOFF 2,2;TSRC 1;DLAY 2,")
    sim.trip("leftover", "+2.00")
    dg = SrsDg645("dg", host.address)
    try:
        with pytest.raises(ProtocolError):
            dg.establish()  # the leftover line comes with the first answer and is seen
        dg.start()
        assert dg.output_cd.offset() == 2.0
        dg.trigger_source("internal")
    finally:
        dg.close()


def test_half_a_command_of_a_dead_program(sim: SrsDg645Sim, host: TcpHost) -> None:
    talk(sim, "TSRC 1;LOFF 2,2;DLAY 2,")
    dg = SrsDg645("dg", host.address)
    dg.start()
    dg.channel_a.delay(1e-6)
    assert dg.channel_a.delay() == 1e-6
    dg.close()


def test_leftover_line_is_never_an_answer(dg: SrsDg645, sim: SrsDg645Sim) -> None:
    sim.trip("leftover", "1")
    with pytest.raises(ProtocolError):
        dg.trigger_source()
    assert dg.trigger_source() == "single"


def test_answers_cut_at_every_byte(sim: SrsDg645Sim) -> None:
    host = TcpHost(sim, cut=1)
    dg = SrsDg645("dg", host.address)
    dg.start()
    dg.channel_a.delay(1.23e-6)
    assert dg.channel_a.delay() == 1.23e-6
    dg.close()
    host.close()


def test_late_answer_is_not_the_next_answer(sim: SrsDg645Sim, host: TcpHost) -> None:
    dg = SrsDg645("dg", host.address, timeout_s=0.1)
    dg.start()
    host.muted.set()
    with pytest.raises(InstrumentTimeout, match=r"TSRC\?"):
        dg.trigger_source()
    assert host.kept_one.wait(5.0)
    host.muted.clear()
    for late in host.kept:
        host.inject(late)
    assert dg.burst_count() == 5
    dg.close()


def test_lost_connection(dg: SrsDg645, host: TcpHost) -> None:
    host.hang_up()
    with pytest.raises(InstrumentDisconnected, match="connection"):
        dg.burst_count()
    report = dg.safe()
    assert not report.safe


def test_two_threads_get_their_own_answers(dg: SrsDg645) -> None:
    dg.burst_count(7)
    wrong: list[object] = []

    def ask(query: object, expected: object) -> None:
        wrong.extend(value for _ in range(50) if (value := query()) != expected)  # type: ignore[operator]

    threads = [
        threading.Thread(target=ask, args=(dg.burst_count, 7)),
        threading.Thread(target=ask, args=(dg.trigger_source, "single")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_safe_twice_with_half_a_command_on_the_wire(dg: SrsDg645, world: FakeWorld) -> None:
    dg.trigger_source("external_rising")
    dg.burst(True)
    dg.output_cd.offset(2.0)
    dg.output_ef.offset(2.0)
    assert (world.knobs.diode_gate_v, world.knobs.mir_gate_v) == (2.0, 2.0)
    dg._wire.send(b"LOFF 3,")
    for _ in range(2):
        report = dg.safe()
        assert report.safe, str(report)
        assert (world.knobs.diode_gate_v, world.knobs.mir_gate_v) == (0.0, 0.0)
        assert dg.trigger_source() == "single" and not dg.burst()


def test_status_of_device_faults(dg: SrsDg645, sim: SrsDg645Sim) -> None:
    sim.trip("pll_unlock")
    sim.trip("rate")
    status = dg.status()
    assert status.pll_unlocked and status.rate_error
    assert dg.status().pll_unlocked, "stays as long as the cause"
    sim.trip("pll_unlock", False)
    dg.status()
    assert not dg.status().pll_unlocked


def test_close_gives_the_port_back(host: TcpHost) -> None:
    for _ in range(2):
        dg = SrsDg645("dg", host.address)
        dg.start()
        dg.close()
