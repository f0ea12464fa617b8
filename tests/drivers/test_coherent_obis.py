"""The Coherent OBIS: simulator by its byte vectors, driver by a script, both together over a wire."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drivers.lasers import coherent_obis
from drivers.lasers.coherent_obis import CoherentObis, LaserState
from drivers.lasers.sim import coherent_obis as sim_module
from drivers.lasers.sim.coherent_obis import CDRH_DELAY_PS, CoherentObisSim
from labctl.instruments.capabilities import Laser, missing_members
from labctl.instruments.errors import (
    CommandRejected,
    InstrumentDisconnected,
    InstrumentTimeout,
    InterlockOpen,
    LimitExceeded,
    NotReady,
    ProtocolError,
)
from tests.drivers.serial_bench import PS, FakeClock, FakeWorld, ScriptedTransport, SimTransport, WireHost

_NUMBERS = itertools.count()
ESTABLISH = [
    (b"?\r\n", b"ERR-100\r\n"),
    (b"SYST:COMM:HAND ON\r\nSYST:COMM:PROM OFF\r\n", b"OK\r\nOK\r\n"),
    (b"?\r\n", b"ERR-100\r\n"),
    (b"SYST:COMM:HAND?\r\n", b"ON\r\nOK\r\n"),
    (b"SYST:AUT?\r\n", b"OFF\r\nOK\r\n"),
    (b"SOUR:AM:SOUR?\r\n", b"CWP\r\nOK\r\n"),
    (b"SYST:ERR:CLE\r\n", b"OK\r\n"),
    (b"SOUR:POW:LIM:LOW?\r\n", b"0.00000\r\nOK\r\n"),
    (b"SOUR:POW:LIM:HIGH?\r\n", b"0.05500\r\nOK\r\n"),
]


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> Iterator[Callable[..., CoherentObis]]:
    """Makes a driver on a given transport, not yet started."""
    made: list[CoherentObis] = []

    def build(transport: Any) -> CoherentObis:
        monkeypatch.setattr("labctl.instruments.link.open_transport", lambda *_: transport)
        laser = CoherentObis(f"laser{next(_NUMBERS)}", "serial://scripted", clock=FakeClock(world))
        laser.link.timeout_s = 0.02
        made.append(laser)
        return laser

    yield build
    for laser in made:
        laser.link.close()  # the end of a script is no place for a safe()
        laser.close()


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> Iterator[Callable[..., tuple[Any, Any, Any]]]:
    """Makes (driver, simulator, host) on a pseudo-terminal, started."""
    monkeypatch.setattr(coherent_obis, "_QUIET_S", 0.02)
    made: list[tuple[CoherentObis, WireHost]] = []

    def build(**options: Any) -> tuple[CoherentObis, CoherentObisSim, WireHost]:
        sim = CoherentObisSim(world, "vis_laser", **options)
        host = WireHost(sim, "serial")
        laser = CoherentObis(f"laser{next(_NUMBERS)}", host.address, clock=FakeClock(world))
        made.append((laser, host))
        laser.start()
        return laser, sim, host

    yield build
    for laser, host in made:
        laser.close()
        host.close()


def say(sim: CoherentObisSim, text: str) -> str:
    return b"".join(reply.data for reply in sim.feed(text.encode() + b"\r\n")).decode()


# --- the simulator alone


def test_byte_vectors(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    assert say(sim, "SYST:COMM:HAND ON") == "OK\r\n"
    assert say(sim, "SOUR:POW:LEV:IMM:AMPL 0.05000") == "OK\r\n"
    assert say(sim, "SOUR:POW:LEV:IMM:AMPL?") == "0.05000\r\nOK\r\n"
    assert say(sim, "SOUR:POW:LEV:IMM:AMPL 9") == "ERR-220\r\n"
    assert say(sim, "FOO?") == "ERR-100\r\n"
    assert say(sim, "SYST:ERR:CLE") == "OK\r\n"
    assert say(sim, "SOUR:TEMP:DIOD?") == "25.0C\r\nOK\r\n"
    say(sim, "SOUR:AM:STAT ON")
    world.now_ps += CDRH_DELAY_PS
    assert say(sim, "SYST:STAT?") == "00000006\r\nOK\r\n"


def test_long_forms_case_and_slicing(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    assert say(sim, "source:power:level:immediate:amplitude 0.002") == "OK\r\n"
    assert say(sim, "Sour:Power:Lev:Imm:Ampl?") == "0.00200\r\nOK\r\n"
    assert say(sim, "SOURC:POW:LEV?") == "ERR-100\r\n"  # neither short nor long
    replies = [reply.data for byte in b"SYST:INF:WAV?\r" for reply in sim.feed(bytes([byte]))]
    assert b"".join(replies) == b"705\r\nOK\r\n"


def test_silent_mode_and_prompt(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser", handshake=False, prompt=True)
    assert say(sim, "SOUR:POW:LEV:IMM:AMPL 0.002") == "> "
    assert say(sim, "SOUR:POW:LEV:IMM:AMPL?") == "0.00200\r\n> "
    assert say(sim, "FOO") == "> "
    say(sim, "SYST:COMM:PROM OFF")
    assert say(sim, "SYST:ERR:NEXT?") == "-100, Unrecognized command\r\n"
    assert say(sim, "SYST:ERR:COUN?") == "0\r\n"


def test_errors_of_arguments_and_overflow(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    assert say(sim, "SOUR:AM:STAT") == "ERR-109\r\n"
    assert say(sim, "SOUR:AM:STAT MAYBE") == "ERR-220\r\n"
    for _ in range(30):
        say(sim, "FOO")
    assert say(sim, "SYST:ERR:COUN?") == "20\r\nOK\r\n"
    assert [say(sim, "SYST:ERR:NEXT?") for _ in range(20)][-1].startswith("-350")


def test_light_follows_emission_delay_interlock_and_key(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    say(sim, "SOUR:AM:STAT ON")
    assert say(sim, "SYST:STAT?").startswith("00000014")
    world.now_ps += CDRH_DELAY_PS - 1
    say(sim, "SYST:STAT?")
    assert world.knobs.cw_power_w == 0.0
    world.now_ps += 1
    say(sim, "SYST:STAT?")
    assert world.knobs.cw_power_w == 0.001
    say(sim, "SOUR:POW:LEV:IMM:AMPL 0.01")
    assert world.knobs.cw_power_w == 0.01
    sim.trip("interlock")
    assert world.knobs.cw_power_w == 0.0
    assert say(sim, "SOUR:AM:STAT ON") == "ERR-200\r\n"
    sim.trip("interlock", False)
    assert say(sim, "SOUR:AM:STAT?") == "OFF\r\nOK\r\n"  # latched
    assert say(sim, "SOUR:AM:STAT ON") == "OK\r\n"
    sim.trip("key")
    assert say(sim, "SYST:STAT?").startswith("0000004")  # standby, no emission; 0x40: errors are queued
    assert sim.state()["emission"] is False
    with pytest.raises(ValueError, match="no fault"):
        sim.trip("flood")


def test_power_approaches_setpoint_with_noise(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser", start_power_w=0.04)
    say(sim, "SOUR:AM:STAT ON")
    world.now_ps += CDRH_DELAY_PS + PS // 5  # one time constant after light
    expected = 0.04 * (1 - 2.718281828**-1)
    assert sim.state()["power_w"] == pytest.approx(expected, rel=1e-6)
    # noise of 0.3 %: five sigma, false alarm 6e-7
    assert float(say(sim, "SOUR:POW:LEV?").split("\r\n")[0]) == pytest.approx(expected, rel=0.015)
    assert say(sim, "SOUR:POW:LEV?") == say(sim, "SOUR:POW:LEV?")  # one world time, one value


def test_warm_up_and_external_mode(world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser", warm_up_s=30.0)
    assert say(sim, "SYST:STAT?").startswith("00000100")
    assert say(sim, "SOUR:AM:STAT ON") == "ERR-200\r\n"
    world.now_ps += 30 * PS
    assert say(sim, "SOUR:AM:EXT DIG") == "OK\r\n"
    assert say(sim, "SOUR:AM:STAT ON") == "OK\r\n"
    world.now_ps += CDRH_DELAY_PS
    assert say(sim, "SYST:STAT?").startswith("00000446")
    assert world.knobs.cw_power_w == 0.0
    assert say(sim, "SOUR:AM:INT CWP") == "ERR-221\r\n"


# --- the driver alone


def test_driver_writes_exactly(drive: Callable[..., CoherentObis]) -> None:
    transport = ScriptedTransport(
        [
            *ESTABLISH,
            (b"SYST:INF:MOD?\r\n", b"OBIS 705LX\r\nOK\r\n"),
            (b"SYST:INF:SNUM?\r\n", b"OB-1\r\nOK\r\n"),
            (b"SYST:INF:FVER?\r\n", b"V1\r\nOK\r\n"),
            (b"SOUR:POW:LEV:IMM:AMPL 0.05000\r\n", b"OK\r\n"),
            (b"SYST:FAUL?\r\n", b"00000000\r\nOK\r\n"),
            (b"SOUR:TEMP:DIOD?\r\n", b"25.0C\r\nOK\r\n"),
            (b"SYST:LOCK?\r\n", b"OK\r\nOK\r\n"),
            (b"SYST:LOCK?\r\n", b"OFF\r\nOK\r\n"),
        ]
    )
    laser = drive(transport)
    assert str(laser.start("OB-1")) == "Coherent OBIS 705LX, s/n OB-1, firmware V1"
    laser.power_setpoint(0.05)
    assert laser.diode_temperature() == pytest.approx(298.15)
    assert laser.interlock_ok() is True
    assert laser.interlock_ok() is False
    assert transport.script == []


def test_value_outside_limits_sends_nothing(drive: Callable[..., CoherentObis]) -> None:
    transport = ScriptedTransport(ESTABLISH)
    laser = drive(transport)
    laser.establish()
    sent = len(transport.written)
    for value in (0.0551, -1e-6, float("nan")):
        with pytest.raises(LimitExceeded, match=r"laser\d+: power_setpoint = .* W is outside 0 to 0.055 W"):
            laser.power_setpoint(value)
    with pytest.raises(TypeError):
        laser.power_setpoint("5 mW")
    assert len(transport.written) == sent


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"hello\r\n0.01000\r\nOK\r\n", ProtocolError),
        (b"\xff\x00garbage\r\nOK\r\n", ProtocolError),
        (b"OK\r\n", ProtocolError),
        (b"0.01000\r\nO", InstrumentTimeout),
        (b"ERR-400\r\n", CommandRejected),
    ],
)
def test_bad_answer_then_right_one(
    drive: Callable[..., CoherentObis], answer: bytes, error: type[Exception]
) -> None:
    script = [(b"SOUR:POW:LEV?\r\n", answer)]
    if error is not CommandRejected:
        script.append((b"?\r\n", b"ERR-100\r\n"))
    script.append((b"SOUR:POW:LEV?\r\n", b"0.02000\r\nOK\r\n"))
    laser = drive(ScriptedTransport([*ESTABLISH, *script]))
    laser.establish()
    with pytest.raises(error):
        laser.power()
    assert laser.power() == 0.02


def test_late_answer_is_not_taken_for_the_next(drive: Callable[..., CoherentObis]) -> None:
    transport = ScriptedTransport(
        [
            *ESTABLISH,
            (b"SOUR:POW:LEV?\r\n", b""),
            (b"?\r\n", b"0.01000\r\nOK\r\nERR-100\r\n"),  # the late answer comes with the drain
            (b"SYST:INF:WAV?\r\n", b"705\r\nOK\r\n"),
        ]
    )
    laser = drive(transport)
    laser.establish()
    with pytest.raises(InstrumentTimeout):
        laser.power()
    assert laser.wavelength() == pytest.approx(705e-9)


# --- both together


def test_answers_split_at_every_byte(drive: Callable[..., CoherentObis], world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    laser = drive(SimTransport(sim, piece=1))
    laser.start("OBIS")
    laser.power_setpoint(0.0123)
    assert laser.power_setpoint() == 0.0123
    assert laser.state() == "off"


def test_round_trip_on_a_serial_line(wired: Callable[..., Any], world: FakeWorld) -> None:
    laser, _sim, _host = wired()
    assert missing_members(laser, Laser) == []
    laser.power_setpoint(0.02)
    assert laser.power_setpoint() == 0.02
    assert laser.emission() is False and laser.power() == 0.0
    begin_ps = world.now_ps
    laser.emission(True)
    waited_ps = world.now_ps - begin_ps
    assert CDRH_DELAY_PS <= waited_ps < CDRH_DELAY_PS + PS
    assert world.knobs.cw_power_w == 0.02
    assert laser.state() == LaserState.ON
    world.now_ps += 2 * PS
    assert laser.power() == pytest.approx(0.02, rel=0.015)  # five sigma, false alarm 6e-7
    laser.emission(False)
    assert laser.emission() is False and world.knobs.cw_power_w == 0.0
    for parameter in laser.parameters.values():
        assert parameter.__doc__
    assert set(laser.snapshot(update=True)["parameters"]) >= {"emission", "hours", "diode_temperature"}


@pytest.mark.parametrize("acknowledged", [True, False])
@pytest.mark.parametrize("interlock_word", ["ON", "OK"])
def test_modes_left_by_others(
    wired: Callable[..., Any],
    world: FakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    acknowledged: bool,
    interlock_word: str,
) -> None:
    monkeypatch.setitem(sim_module.ASSUMED, "hand_on_acknowledged", acknowledged)
    monkeypatch.setitem(sim_module.ASSUMED, "interlock_closed", interlock_word)
    laser, sim, _host = wired(handshake=False, prompt=True, autostart=True)
    assert "autostart was on" in caplog.text
    assert say(sim, "SYST:AUT?") == "OFF\r\nOK\r\n"
    assert laser.interlock_ok() is True


def test_half_a_command_on_the_wire_never_emits(drive: Callable[..., CoherentObis], world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    sim.feed(b"SOUR:AM:STAT ON")
    laser = drive(SimTransport(sim))
    laser.start()
    assert laser.state() == LaserState.OFF
    sim.feed(b"SOUR:AM:STAT O")
    assert laser.safe().safe


def test_interlock_and_key(wired: Callable[..., Any], world: FakeWorld) -> None:
    laser, sim, _host = wired()
    sim.trip("interlock")
    with pytest.raises(InterlockOpen, match="close the interlock"):
        laser.emission(True)
    assert laser.state() == LaserState.INTERLOCK and laser.interlock_ok() is False
    sim.trip("interlock", False)
    sim.trip("key")
    with pytest.raises(InterlockOpen, match="key switch"):
        laser.emission(True)
    sim.trip("key", False)
    laser.emission(True)
    sim.trip("interlock")
    assert world.knobs.cw_power_w == 0.0
    sim.trip("interlock", False)
    assert laser.emission() is False
    sim.trip("fault", 0x2)
    with pytest.raises(CommandRejected, match="diode temperature"):
        laser.power_setpoint(0.01)
    assert "diode temperature" in laser.state_text()


def test_interlock_opens_during_the_emission_delay(
    drive: Callable[..., CoherentObis], world: FakeWorld
) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    laser = drive(SimTransport(sim))
    laser.start()

    class Door(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.world.now_ps > 2 * PS:
                sim.trip("interlock")

    laser.clock = Door(world)
    with pytest.raises(InterlockOpen):
        laser.emission(True)
    assert world.now_ps < 3 * PS


def test_abandoned_start_does_not_come_on_later(drive: Callable[..., CoherentObis], world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    laser = drive(SimTransport(sim))
    laser.start()

    class Impatient(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    laser.clock = Impatient(world)
    with pytest.raises(KeyboardInterrupt):
        laser.emission(True)
    world.now_ps += 10 * PS
    assert laser.state() == LaserState.OFF


def test_not_warm_yet(wired: Callable[..., Any], world: FakeWorld) -> None:
    laser, _sim, _host = wired(warm_up_s=60.0)
    with pytest.raises(NotReady, match="warming up"):
        laser.emission(True)
    world.now_ps += 60 * PS
    laser.emission(True)
    assert laser.emission() is True


def test_rejected_value_then_right_answer(wired: Callable[..., Any]) -> None:
    laser, _sim, _host = wired()
    laser.power_setpoint.vals = None
    with pytest.raises(CommandRejected, match="invalid parameter") as caught:
        laser.power_setpoint(9.0)
    assert caught.value.code == -220
    assert laser.power_setpoint() == 0.001


def test_missing_ok_then_right_answer(drive: Callable[..., CoherentObis], world: FakeWorld) -> None:
    sim = CoherentObisSim(world, "vis_laser")
    laser = drive(SimTransport(sim))
    laser.start()
    sim.trip("missing_ok")
    with pytest.raises(InstrumentTimeout):
        laser.power_setpoint(0.003)
    assert laser.power_setpoint() == 0.003


def test_power_cycle_in_mid_session(wired: Callable[..., Any], world: FakeWorld) -> None:
    laser, sim, _host = wired()
    laser.emission(True)
    sim.trip("power_cycle")
    assert world.knobs.cw_power_w == 0.0
    with pytest.raises(ProtocolError, match="establish"):
        laser.power()
    assert laser.power() == 0.0
    laser.establish()
    assert laser.emission() is False


def test_two_threads_get_their_own_answers(wired: Callable[..., Any]) -> None:
    laser, _sim, _host = wired()

    def ask(read: Callable[[], float]) -> set[float]:
        return {read() for _ in range(100)}

    with ThreadPoolExecutor(2) as threads:
        wavelength = threads.submit(ask, laser.wavelength)
        power = threads.submit(ask, laser.power_setpoint)
    assert wavelength.result() == {705e-9}
    assert power.result() == {0.001}


def test_disconnect_and_reopen(wired: Callable[..., Any]) -> None:
    laser, _sim, host = wired()
    host.hang_up()
    with pytest.raises(InstrumentDisconnected):
        laser.power()
    assert not laser.safe().safe
    with pytest.raises(InstrumentDisconnected):
        laser.link.reopen()


def test_safe_twice_in_every_mode(wired: Callable[..., Any], world: FakeWorld) -> None:
    laser, sim, _host = wired()
    laser.emission(True)
    say(sim, "SYST:COMM:HAND OFF")
    say(sim, "SYST:COMM:PROM ON")
    report = laser.safe()
    assert report.safe and world.knobs.cw_power_w == 0.0
    assert laser.safe().safe
    sim.feed(b"SOUR:AM:STAT ON")
    assert laser.safe().safe
    world.now_ps += 10 * PS
    assert laser.emission() is False


def test_close_leaves_emission_off(wired: Callable[..., Any], world: FakeWorld) -> None:
    laser, sim, host = wired()
    laser.emission(True)
    laser.close()
    laser.close()
    assert sim.state()["emission"] is False and world.knobs.cw_power_w == 0.0
    again = CoherentObis(f"laser{next(_NUMBERS)}", host.address, clock=FakeClock(world))
    assert again.start().vendor == "Coherent"
    again.close()
