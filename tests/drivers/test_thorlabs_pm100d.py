"""The Thorlabs PM100D: simulator by its byte vectors, driver by a script, both together over VISA."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.power_meters import thorlabs_pm100d
from drivers.power_meters.sim import thorlabs_pm100d as sim_module
from drivers.power_meters.sim.thorlabs_pm100d import ThorlabsPm100dSim
from drivers.power_meters.thorlabs_pm100d import ThorlabsPm100d
from labctl.instruments.capabilities import PowerMeter, missing_members
from labctl.instruments.errors import (
    CommandRejected,
    InstrumentDisconnected,
    InstrumentError,
    InstrumentTimeout,
    LimitExceeded,
    NotReady,
    ProtocolError,
)
from tests.drivers.serial_bench import (
    PS,
    FakeClock,
    FakeWorld,
    ScriptedTransport,
    SimTransport,
    WireHost,
    deliver,
)

_NUMBERS = itertools.count()
NO_ERROR = (b"SYST:ERR?\n", b'+0,"No error"\n')
ESTABLISH = [
    (b"\n", b""),
    (b"*CLS\n", b""),
    (b"SENS:POW:UNIT W\n", b""),
    NO_ERROR,
    (b"SENS:CORR:WAV? MIN\n", b"4.0E+02\n"),
    (b"SENS:CORR:WAV? MAX\n", b"1.1E+03\n"),
    (b"SENS:POW:RANG:UPP? MIN\n", b"5.0E-08\n"),
    (b"SENS:POW:RANG:UPP? MAX\n", b"5.0E-02\n"),
    (b"SENS:CORR?\n", b"0.0\n"),
    NO_ERROR,
]
WATTS = (b"SENS:POW:UNIT?\n", b"W\n")


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> Iterator[Callable[..., ThorlabsPm100d]]:
    """Makes a driver on a given transport, not yet started."""
    made: list[ThorlabsPm100d] = []
    for limit in ("_ANSWER_TIMEOUT_S", "_READING_TIMEOUT_S"):
        monkeypatch.setattr(thorlabs_pm100d, limit, 0.02)

    def build(transport: Any) -> ThorlabsPm100d:
        monkeypatch.setattr("labctl.instruments.link.open_transport", lambda *_: transport)
        made.append(ThorlabsPm100d(f"meter{next(_NUMBERS)}", "visa://scripted", clock=FakeClock(world)))
        return made[-1]

    yield build
    for meter in made:
        meter.close()


@pytest.fixture
def wired(world: FakeWorld) -> Iterator[Callable[..., tuple[Any, Any, Any]]]:
    """Makes (driver, simulator, host) on a VISA socket, started."""
    made: list[tuple[ThorlabsPm100d, WireHost]] = []

    def build(**options: Any) -> tuple[ThorlabsPm100d, ThorlabsPm100dSim, WireHost]:
        sim = ThorlabsPm100dSim(world, "power_meter", **options)
        host = WireHost(sim, "visa")
        meter = ThorlabsPm100d(f"meter{next(_NUMBERS)}", host.address, clock=FakeClock(world))
        made.append((meter, host))
        meter.start("PM100D")
        return meter, sim, host

    yield build
    for meter, host in made:
        meter.close()
        host.close()


def say(sim: ThorlabsPm100dSim, text: str) -> str:
    return deliver(sim, sim.feed(f"{text}\n".encode())).decode()


# --- the simulator alone


def test_byte_vectors(world: FakeWorld) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter")
    assert say(sim, "*IDN?") == "THORLABS,PM100D,P0001234,2.4.0\n"
    assert say(sim, "SYST:SENS:IDN?") == "S120C,1234567,12-JAN-2020,1,18,289\n"
    assert say(sim, "SYST:ERR?") == '+0,"No error"\n'
    assert say(sim, "SENS:CORR:WAV 637") == ""
    assert float(say(sim, "SENS:CORR:WAV?")) == 637.0
    assert float(say(sim, "SENS:CORR:WAV? MAX")) == 1100.0
    assert say(sim, "sense:average:count 100;:SENS1:AVER?") == "100\n"
    assert b"".join(r.data for b in b"SENS:POW:UNIT?\n" for r in sim.feed(bytes([b]))) == b"W\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("FOO", -113),
        ("FOO?", -113),
        ("SENS:CORR:WAV", -109),
        ("SENS:CORR:WAV red", -104),
        ("SENS:CORR:WAV 2000", -222),
        ("SENS:CORR:WAV? MID", -224),
        ("SENS:POW:UNIT mW", -224),
    ],
)
def test_errors_go_into_the_queue(world: FakeWorld, command: str, code: int) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter")
    assert say(sim, command) == ""
    assert say(sim, "SYST:ERR?").startswith(f"{code},")
    assert say(sim, "SYST:ERR?").startswith("+0,")


def test_error_queue_overflows(world: FakeWorld) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter")
    for _ in range(30):
        say(sim, "FOO")
    assert [say(sim, "SYST:ERR?") for _ in range(20)][-1].startswith("-350")
    say(sim, "FOO")
    say(sim, "*CLS")
    assert say(sim, "SYST:ERR?").startswith("+0,")


def test_reading_is_the_light_of_the_moment(world: FakeWorld) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter")
    world.meter_w = 2e-3
    reading = float(say(sim, "MEAS:POW?"))
    assert reading == pytest.approx(2e-3, rel=0.01)  # five sigma of 0.2 %, false alarm 6e-7
    assert float(say(sim, "READ?")) == reading  # same time, same reading
    world.now_ps += PS
    assert float(say(sim, "MEASURE:POWER?")) != reading
    say(sim, "SENS:POW:UNIT DBM")
    assert float(say(sim, "MEAS:POW?")) == pytest.approx(3.01, abs=0.05)
    say(sim, "SENS:POW:UNIT W;:SENS:CORR 10")
    assert float(say(sim, "MEAS:POW?")) == pytest.approx(2e-2, rel=0.01)


def test_ranges(world: FakeWorld) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter")
    world.meter_w = 2e-3
    assert float(say(sim, "SENS:POW:RANG?")) == 5e-3
    say(sim, "SENS:POW:RANG 1e-4")
    assert say(sim, "SENS:POW:RANG:AUTO?") == "0\n"
    assert float(say(sim, "SENS:POW:RANG?")) == 5e-4
    assert float(say(sim, "MEAS:POW?")) > 9e37
    world.meter_w = 1.0
    say(sim, "SENS:POW:RANG:AUTO 1")
    assert float(say(sim, "MEAS:POW?")) > 9e37


def test_zero_delays_readings(world: FakeWorld) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter")
    say(sim, "SENS:CORR:COLL:ZERO")
    assert say(sim, "SENS:CORR:COLL:ZERO:STAT?") == "1\n"
    (reply,) = sim.feed(b"MEAS:POW?\n")
    assert reply.due_ps == 2 * PS
    world.now_ps = 2 * PS
    assert say(sim, "SENS:CORR:COLL:ZERO:STAT?") == "0\n"
    assert sim.state()["zero_offset_w"] != 0.0
    assert float(say(sim, "SENS:CORR:COLL:ZERO:MAGN?")) == pytest.approx(sim.state()["zero_offset_w"])
    say(sim, "SENS:CORR:COLL:ZERO:INIT")
    say(sim, "SENS:CORR:COLL:ZERO:ABOR")
    assert say(sim, "SENS:CORR:COLL:ZERO:STAT?") == "0\n"


def test_unknown_fault(world: FakeWorld) -> None:
    with pytest.raises(ValueError, match="no fault"):
        ThorlabsPm100dSim(world, "power_meter").trip("flood")


# --- the driver alone


def test_driver_writes_exactly(drive: Callable[..., ThorlabsPm100d]) -> None:
    transport = ScriptedTransport(
        [
            *ESTABLISH,
            (b"*IDN?\n", b"THORLABS,PM100D,P0001234,2.4.0\n"),
            WATTS,
            (b"MEAS:POW?\n", b"1.25000000E-03\r\n"),
            (b"SENS:CORR:WAV 705.000\n", b""),
            NO_ERROR,
            (b"SENS:CORR:WAV?\n", b"7.05E+02\n"),
            (b"SENS:AVER:COUN 10\n", b""),
            NO_ERROR,
            (b"SENS:POW:RANG:UPP 1.000000E-03\n", b""),
            NO_ERROR,
            (b"SENS:POW:RANG:AUTO 1\n", b""),
            NO_ERROR,
        ]
    )
    meter = drive(transport)
    assert str(meter.start("P0001234")) == "THORLABS PM100D, s/n P0001234, firmware 2.4.0"
    assert meter.power() == 1.25e-3
    meter.wavelength(705e-9)
    assert meter.wavelength() == 705e-9
    meter.averaging(10)
    meter.range(1e-3)
    meter.auto_range(True)
    assert transport.script == []
    assert missing_members(meter, PowerMeter) == []


def test_value_outside_limits_sends_nothing(drive: Callable[..., ThorlabsPm100d]) -> None:
    transport = ScriptedTransport(ESTABLISH)
    meter = drive(transport)
    meter.establish()
    sent = len(transport.written)
    with pytest.raises(LimitExceeded, match=r"meter\d+: wavelength = 1.2e-06 m is outside 4e-07 to 1.1e-06"):
        meter.wavelength(1200e-9)
    with pytest.raises(LimitExceeded, match="range = 1 W"):
        meter.range(1.0)
    with pytest.raises(ValueError, match=r"meter\d+.averaging"):
        meter.averaging(0)
    assert len(transport.written) == sent


def test_unit_changed_at_the_front_panel_in_between(
    drive: Callable[..., ThorlabsPm100d], caplog: pytest.LogCaptureFixture
) -> None:
    script = [
        (b"SENS:POW:UNIT?\n", b"DBM\n"),
        (b"SENS:POW:UNIT W\n", b""),
        NO_ERROR,
        (b"MEAS:POW?\n", b"1.0E-03\n"),
    ]
    meter = drive(ScriptedTransport([*ESTABLISH, *script]))
    meter.establish()
    assert meter.power() == 1e-3
    assert "changed the unit" in caplog.text


@pytest.mark.parametrize("answer", [b"W\n", b"\n", b"1.0E-03 W\n", b"1.0E-03;2.0E-03\n"])
def test_misfit_answer_then_right_one(drive: Callable[..., ThorlabsPm100d], answer: bytes) -> None:
    script = [WATTS, (b"MEAS:POW?\n", answer), (b"\n", b""), WATTS, (b"MEAS:POW?\n", b"2.0E-03\n")]
    meter = drive(ScriptedTransport([*ESTABLISH, *script]))
    meter.establish()
    with pytest.raises(ProtocolError):
        meter.power()
    assert meter.power() == 2e-3


def test_late_answer_is_not_taken_for_the_next(drive: Callable[..., ThorlabsPm100d]) -> None:
    script = [
        WATTS,
        (b"MEAS:POW?\n", b""),
        (b"\n", b"1.0E-03\n"),  # the late answer comes with the drain
        NO_ERROR,
        (b"SENS:AVER:COUN?\n", b"7\n"),
    ]
    meter = drive(ScriptedTransport([*ESTABLISH, *script]))
    meter.establish()
    with pytest.raises(InstrumentTimeout):
        meter.power()
    assert meter.averaging() == 7


def test_endless_error_queue(drive: Callable[..., ThorlabsPm100d]) -> None:
    script = [(b"SYST:ERR?\n", b'-1,"again"\n')] * 200
    meter = drive(ScriptedTransport([*ESTABLISH, *script]))
    meter.establish()
    with pytest.raises(ProtocolError):
        meter.check_errors()


# --- both together


def test_answers_split_at_every_byte(drive: Callable[..., ThorlabsPm100d], world: FakeWorld) -> None:
    world.meter_w = 1e-3
    meter = drive(SimTransport(ThorlabsPm100dSim(world, "power_meter"), piece=1))
    meter.start("PM100D")
    assert meter.power() == pytest.approx(1e-3, rel=0.01)  # five sigma, false alarm 6e-7


def test_round_trip_over_visa(wired: Callable[..., Any], world: FakeWorld) -> None:
    meter, _sim, _host = wired()
    world.meter_w = 1e-3
    assert meter.power() == pytest.approx(1e-3, rel=0.01)  # five sigma, false alarm 6e-7
    for parameter, value in (("wavelength", 637e-9), ("averaging", 20), ("auto_range", False)):
        meter.parameters[parameter](value)
        assert meter.parameters[parameter]() == value
    meter.range(3e-4)
    assert meter.range() == 5e-4
    with pytest.raises(NotReady, match="over range"):
        meter.power()
    meter.auto_range(True)
    assert meter.power() == pytest.approx(1e-3, rel=0.01)
    assert meter.state_text() == "sensor S120C, ready"
    assert meter.snapshot(update=True)["parameters"]["power"]["unit"] == "W"
    assert meter.safe().safe and meter.safe().safe


def test_modes_left_by_others(
    drive: Callable[..., ThorlabsPm100d], world: FakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    sim = ThorlabsPm100dSim(world, "power_meter", unit="DBM")
    world.meter_w = 1e-3
    say(sim, "FOO")
    say(sim, "SENS:CORR 3")
    sim.feed(b"SENS:POW:UN")
    meter = drive(SimTransport(sim))
    meter.start()
    assert "loss of 3 dB" in caplog.text
    say(sim, "SENS:CORR 0")
    assert meter.power() == pytest.approx(1e-3, rel=0.01)
    sim.trip("unit", "DBM")
    assert meter.power() == pytest.approx(1e-3, rel=0.01)


def test_rejected_value_then_right_answer(wired: Callable[..., Any]) -> None:
    meter, _sim, _host = wired()
    meter.wavelength.vals = None
    with pytest.raises(CommandRejected, match="Data out of range") as caught:
        meter.wavelength(2e-6)
    assert caught.value.code == "-222"
    assert meter.wavelength() == 705e-9


def test_zero_waits_on_the_bench_clock(wired: Callable[..., Any], world: FakeWorld) -> None:
    meter, sim, _host = wired()
    begin_ps = world.now_ps
    meter.zero()
    assert 2 * PS <= world.now_ps - begin_ps < 2.5 * PS
    assert meter.power() == pytest.approx(0.0, abs=10e-9)
    world.meter_w = 1e-3
    offset_w = sim.state()["zero_offset_w"]
    with pytest.raises(CommandRejected, match="block the beam"):
        meter.zero()
    assert sim.state()["zero_offset_w"] == offset_w
    sim.trip("zero")
    begin_ps = world.now_ps
    assert meter.power() == pytest.approx(1e-3, rel=0.01)
    assert world.now_ps - begin_ps == 2 * PS  # the reading had to wait


@pytest.mark.parametrize("answers", [True, False])
def test_unplugged_sensor(
    drive: Callable[..., ThorlabsPm100d], world: FakeWorld, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setitem(sim_module.ASSUMED, "no_sensor_answers", answers)
    sim = ThorlabsPm100dSim(world, "power_meter")
    meter = drive(SimTransport(sim))
    meter.start()
    sim.trip("sensor")
    with pytest.raises(CommandRejected, match="Hardware missing"):
        meter.power()
    assert "no sensor" in meter.state_text()
    sim.trip("sensor", False)
    assert meter.power() == pytest.approx(0.0, abs=10e-9)


def test_disconnect(wired: Callable[..., Any]) -> None:
    meter, _sim, host = wired()
    host.hang_up()
    with pytest.raises(InstrumentError):  # a VISA socket notices a closed peer only with its second write
        meter.power()
    with pytest.raises(InstrumentDisconnected):
        meter.power()
    assert not meter.safe().safe
