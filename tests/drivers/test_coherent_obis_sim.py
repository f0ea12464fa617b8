"""The simulated Coherent OBIS by its byte vectors, and what it does to the world."""

from __future__ import annotations

import pytest

from drivers.lasers.sim.coherent_obis import CDRH_DELAY_PS, CoherentObisSim
from tests.drivers.serial_bench import PS, FakeWorld


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def say(sim: CoherentObisSim, text: str) -> str:
    return b"".join(reply.data for reply in sim.feed(text.encode() + b"\r\n")).decode()


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
    assert b"".join(replies) == b"405\r\nOK\r\n"


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
