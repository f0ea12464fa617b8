"""The Thorlabs ELL14: simulator by its byte vectors, driver by a script, both together over a wire."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.rotators import thorlabs_ell14
from drivers.rotators.sim import thorlabs_ell14 as sim_module
from drivers.rotators.sim.thorlabs_ell14 import ThorlabsEll14Sim
from drivers.rotators.thorlabs_ell14 import ThorlabsEll14
from labctl.instruments.capabilities import Rotator, missing_members
from labctl.instruments.errors import (
    CommandRejected,
    InstrumentDisconnected,
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
INFORMATION = b"0IN0E1140051720211701016800023000\r\n"
ESTABLISH = [(b"0gs", b"0GS00\r\n"), (b"0gs", b"0GS00\r\n"), (b"0gs", b"0GS00\r\n"), (b"0in", INFORMATION)]
PULSE_DEG = 360 / 0x23000


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> Iterator[Callable[..., ThorlabsEll14]]:
    """Makes a driver on a given transport, not yet started."""
    made: list[ThorlabsEll14] = []
    for limit in ("_ANSWER_TIMEOUT_S", "_MOVE_TIMEOUT_S", "_PARTIAL_COMMAND_S"):
        monkeypatch.setattr(thorlabs_ell14, limit, 0.02)

    def build(transport: Any, **options: Any) -> ThorlabsEll14:
        monkeypatch.setattr("labctl.instruments.link.open_transport", lambda *_: transport)
        made.append(
            ThorlabsEll14(f"rotator{next(_NUMBERS)}", "serial://scripted", clock=FakeClock(world), **options)
        )
        return made[-1]

    yield build
    for rotator in made:
        rotator.close()


@pytest.fixture
def wired(world: FakeWorld) -> Iterator[tuple[ThorlabsEll14, ThorlabsEll14Sim, WireHost]]:
    """Driver, simulator and host on a pseudo-terminal, started."""
    sim = ThorlabsEll14Sim(world, "vis_rotator", start_deg=10.0)
    host = WireHost(sim, "serial")
    rotator = ThorlabsEll14(f"rotator{next(_NUMBERS)}", host.address, clock=FakeClock(world))
    rotator.start("ELL14")
    yield rotator, sim, host
    rotator.close()
    host.close()


def say(sim: ThorlabsEll14Sim, text: str) -> str:
    return deliver(sim, sim.feed(text.encode())).decode()


# --- the simulator alone


def test_byte_vectors(world: FakeWorld) -> None:
    sim = ThorlabsEll14Sim(world, "vis_rotator")
    assert say(sim, "0in").encode() == INFORMATION
    assert say(sim, "0gs") == "0GS00\r\n"
    assert say(sim, "0ma00008C00") == "0PO00008C00\r\n"
    assert 1 <= abs(int(say(sim, "0gp")[3:11], 16) - 0x8C00) <= 5
    assert say(sim, "0mr7FFFFFFF") == "0GS0C\r\n"
    assert say(sim, "0gs") == "0GS00\r\n"
    assert say(sim, "0zz") == "0GS03\r\n"
    assert say(sim, "1gs") == ""  # another mount's
    assert say(sim, "0gv") == "0GV64\r\n"
    assert say(sim, "0sv32") == "0GS00\r\n"
    assert say(sim, "0gv") == "0GV32\r\n"


def test_any_slicing_and_several_commands_at_once(world: FakeWorld) -> None:
    sim = ThorlabsEll14Sim(world, "vis_rotator")
    assert "".join(say(sim, letter) for letter in "0gs") == "0GS00\r\n"
    assert say(sim, "0gs1in0gv") == "0GS00\r\n0GV64\r\n"


def test_world_turns_when_the_move_is_over(world: FakeWorld) -> None:
    sim = ThorlabsEll14Sim(world, "mir_rotator", axis="mir_waveplate_deg", start_deg=45.0)
    assert world.knobs.mir_waveplate_deg == 45.0
    (reply,) = sim.feed(b"0ma00008C00")
    assert reply.due_ps is not None
    assert reply.due_ps == pytest.approx((0.1 + 45 / 400) * PS)
    world.now_ps = reply.due_ps - 1
    assert say(sim, "0gp") == "0GS09\r\n"
    assert world.knobs.mir_waveplate_deg == 45.0
    world.now_ps = reply.due_ps
    sim.released(reply)
    error_pulses = (world.knobs.mir_waveplate_deg - 90.0) / PULSE_DEG
    assert 0.9 < abs(error_pulses) < 5.1
    assert round(90 / PULSE_DEG + error_pulses) == int(say(sim, "0gp")[3:11], 16)


def test_home_jog_and_negative_positions(world: FakeWorld) -> None:
    sim = ThorlabsEll14Sim(world, "vis_rotator", start_deg=90.0)
    assert say(sim, "0ho0") == "0PO00000000\r\n"
    assert abs(sim.state()["angle_deg"]) <= 5 * PULSE_DEG
    say(sim, "0sj00001000")
    assert say(sim, "0gj") == "0GJ00001000\r\n"
    say(sim, "0fw")
    assert sim.state()["angle_deg"] == pytest.approx(0x1000 * PULSE_DEG, abs=10 * PULSE_DEG)


def test_half_a_command_times_out(world: FakeWorld) -> None:
    wall = [0.0]
    sim = ThorlabsEll14Sim(world, "vis_rotator", wall_s=lambda: wall[0])
    say(sim, "0ma0000")
    world.now_ps += 3 * PS
    assert say(sim, "0gs") == "0GS01\r\n"
    say(sim, "0ma0000")
    wall[0] += 3.0
    assert say(sim, "0gs") == "0GS01\r\n"
    assert say(sim, "0gs") == "0GS00\r\n"


def test_unknown_fault(world: FakeWorld) -> None:
    with pytest.raises(ValueError, match="no fault"):
        ThorlabsEll14Sim(world, "vis_rotator").trip("flood")


# --- the driver alone


def test_driver_writes_exactly(drive: Callable[..., ThorlabsEll14]) -> None:
    transport = ScriptedTransport(
        [
            *ESTABLISH,
            (b"0in", INFORMATION),
            (b"0gp", b"0POFFFFFFFD\r\n"),
            (b"0gp", b"0PO00000000\r\n"),
            (b"0ma00008C00", b"0PO00008BFE\r\n"),
            (b"0ho0", b"0PO00000002\r\n"),
        ]
    )
    rotator = drive(transport)
    assert str(rotator.start("11400517")) == "Thorlabs ELL14, s/n 11400517, firmware 23"
    assert rotator.angle() == pytest.approx(-3 * PULSE_DEG)
    rotator.angle(90)
    rotator.home()
    assert transport.script == []
    assert missing_members(rotator, Rotator) == []


def test_angle_outside_limits_sends_nothing(drive: Callable[..., ThorlabsEll14]) -> None:
    transport = ScriptedTransport(ESTABLISH)
    rotator = drive(transport)
    rotator.establish()
    sent = len(transport.written)
    for angle in (-0.1, 360.1, float("nan")):
        with pytest.raises(LimitExceeded, match=r"rotator\d+: angle = .* deg is outside 0 to 360 deg"):
            rotator.angle(angle)
    assert len(transport.written) == sent


def test_not_started(drive: Callable[..., ThorlabsEll14]) -> None:
    with pytest.raises(NotReady, match="start"):
        drive(ScriptedTransport([])).angle(10.0)


def test_stopped_beside_the_target(drive: Callable[..., ThorlabsEll14]) -> None:
    rotator = drive(
        ScriptedTransport([*ESTABLISH, (b"0gp", b"0PO00000000\r\n"), (b"0ma00008C00", b"0PO00008BF0\r\n")])
    )
    rotator.establish()
    with pytest.raises(NotReady, match=r"89\.960 deg instead of 90\.000 deg"):
        rotator.angle(90)


@pytest.mark.parametrize("buttons", [b"0BS08\r\n", b"0BO00001234\r\n3BS08\r\n", b"0BS08\r\n0BO0000"])
def test_button_before_between_and_after(drive: Callable[..., ThorlabsEll14], buttons: bytes) -> None:
    complete = buttons.endswith(b"\n")
    transport = ScriptedTransport(
        [*ESTABLISH, (b"0gp", (buttons if complete else b"") + b"0PO00000100\r\n" + buttons)]
    )
    transport.script += [(b"0gp", b"0PO00000200\r\n")]
    rotator = drive(transport)
    rotator.establish()
    assert rotator.angle() == pytest.approx(0x100 * PULSE_DEG)
    assert rotator.angle() == pytest.approx(0x200 * PULSE_DEG)


def test_late_end_of_a_move_is_never_an_angle(drive: Callable[..., ThorlabsEll14]) -> None:
    transport = ScriptedTransport(
        [
            *ESTABLISH,
            (b"0gp", b"0PO00000000\r\n"),
            (b"0ma00008C00", b""),
            (b"0gs", b"0GS09\r\n"),  # asked for the angle: still moving
            (b"0gs", b"0PO00008C00\r\n0GS00\r\n"),  # the late answer, then the status
            (b"0gp", b"0PO00008BFE\r\n"),
        ]
    )
    rotator = drive(transport)
    rotator.establish()
    with pytest.raises(InstrumentTimeout):
        rotator.angle(90)
    with pytest.raises(CommandRejected, match="busy"):
        rotator.angle()
    assert rotator.angle() == pytest.approx(0x8BFE * PULSE_DEG)


@pytest.mark.parametrize("answer", [b"0PO0000\r\n", b"1PO00000000\r\n", b"\xff\xff\r\n", b"0GS00\r\n"])
def test_misfit_answer_then_right_one(drive: Callable[..., ThorlabsEll14], answer: bytes) -> None:
    rotator = drive(ScriptedTransport([*ESTABLISH, (b"0gp", answer), (b"0gp", b"0PO00000000\r\n")]))
    rotator.establish()
    with pytest.raises(ProtocolError):
        rotator.angle()
    assert rotator.angle() == 0.0


def test_other_bus_address(drive: Callable[..., ThorlabsEll14], world: FakeWorld) -> None:
    rotator = drive(SimTransport(ThorlabsEll14Sim(world, "rotator", address="a")), bus_address="A")
    rotator.start()
    rotator.angle(12.0)
    assert world.knobs.vis_waveplate_deg == pytest.approx(12.0, abs=6 * PULSE_DEG)


# --- both together


def test_answers_split_at_every_byte(drive: Callable[..., ThorlabsEll14], world: FakeWorld) -> None:
    rotator = drive(SimTransport(ThorlabsEll14Sim(world, "vis_rotator"), piece=1))
    rotator.start()
    rotator.angle(33.0)
    assert rotator.angle() == pytest.approx(33.0, abs=6 * PULSE_DEG)


def test_round_trip_on_a_serial_line(wired: tuple[Any, Any, Any], world: FakeWorld) -> None:
    rotator, _sim, _host = wired
    assert rotator.angle() == pytest.approx(10.0, abs=PULSE_DEG)
    begin_ps = world.now_ps
    for angle in (90.0, 0.0, 360.0, 22.5):
        rotator.angle(angle)
        assert rotator.angle() == pytest.approx(angle, abs=6 * PULSE_DEG)
        assert world.knobs.vis_waveplate_deg == pytest.approx(rotator.angle(), abs=1e-9)
    assert world.now_ps - begin_ps == pytest.approx((0.4 + (80 + 90 + 360 + 337.5) / 400) * PS, rel=1e-3)
    rotator.home()
    assert rotator.state_text() == "ok"
    assert rotator.snapshot(update=True)["parameters"]["angle"]["unit"] == "deg"


@pytest.mark.parametrize("reports_target", [True, False])
def test_noise_of_the_reported_position_is_tolerated(
    wired: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch, reports_target: bool
) -> None:
    rotator, _sim, _host = wired
    monkeypatch.setitem(sim_module.ASSUMED, "completion_reports_target", reports_target)
    rotator.angle(55.0)
    assert rotator.angle() == pytest.approx(55.0, abs=6 * PULSE_DEG)


def test_stall_then_right_answer(wired: tuple[Any, Any, Any]) -> None:
    rotator, sim, _host = wired
    sim.trip("stall")
    with pytest.raises(CommandRejected, match="mechanical time-out") as caught:
        rotator.angle(90.0)
    assert caught.value.code == 2
    assert rotator.angle() == pytest.approx(50.0, abs=2 * PULSE_DEG)  # half way
    rotator.angle(90.0)


def test_rejected_value_then_right_answer(wired: tuple[Any, Any, Any]) -> None:
    rotator, _sim, _host = wired
    rotator.angle.vals = None
    with pytest.raises(CommandRejected, match="out of range"):
        rotator.angle(400.0)
    assert rotator.angle() == pytest.approx(10.0, abs=PULSE_DEG)


def test_slow_mount(drive: Callable[..., ThorlabsEll14], world: FakeWorld) -> None:
    class Sticky(ThorlabsEll14Sim):
        def released(self, reply: Any) -> None:
            super().released(reply)
            world.now_ps += 5 * PS

    rotator = drive(SimTransport(Sticky(world, "vis_rotator")))
    rotator.start()
    with pytest.raises(NotReady, match="slows the mount"):
        rotator.angle(90.0)


@pytest.mark.parametrize("fault", ["wrong_address", "collision"])
def test_troubled_bus(wired: tuple[Any, Any, Any], fault: str) -> None:
    rotator, sim, _host = wired
    sim.trip(fault)
    with pytest.raises(ProtocolError):
        rotator.angle()
    assert rotator.angle() == pytest.approx(10.0, abs=PULSE_DEG)


def test_button_in_a_query(wired: tuple[Any, Any, Any]) -> None:
    rotator, sim, _host = wired
    sim.trip("button")
    assert rotator.angle() == pytest.approx(10.0, abs=PULSE_DEG)
    sim.trip("button")
    rotator.angle(20.0)
    assert rotator.angle() == pytest.approx(20.0, abs=6 * PULSE_DEG)


def test_modes_left_by_others(drive: Callable[..., ThorlabsEll14], world: FakeWorld) -> None:
    """Half a command, an unread error and a move under way."""
    wall = [0.0]
    sim = ThorlabsEll14Sim(world, "vis_rotator", wall_s=lambda: wall[0])

    class WallTransport(SimTransport):
        def read(self, timeout_s: float) -> bytes:
            wall[0] += 0.5
            return super().read(timeout_s)

    sim.feed(b"0ma0000")
    rotator = drive(WallTransport(sim))
    rotator.start()
    assert rotator.angle() == 0.0
    sim.feed(b"0ma0000")
    assert rotator.safe().safe and rotator.safe().safe
    sim.feed(b"0ma00008C00")
    rotator.establish()
    assert rotator.angle() == pytest.approx(90.0, abs=6 * PULSE_DEG)


def test_disconnect(wired: tuple[Any, Any, Any]) -> None:
    rotator, _sim, host = wired
    host.hang_up()
    with pytest.raises(InstrumentDisconnected):
        rotator.angle()
    assert not rotator.safe().safe


def test_port_is_free_after_close(wired: tuple[Any, Any, Any], world: FakeWorld) -> None:
    rotator, _sim, host = wired
    rotator.link.close()
    again = ThorlabsEll14(f"rotator{next(_NUMBERS)}", host.address, clock=FakeClock(world))
    assert again.start().model == "ELL14"
    again.close()
