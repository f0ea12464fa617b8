"""The Coherent OBIS driver: alone by a script, and with the simulator over a wire."""

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
    assert wavelength.result() == {405e-9}
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
