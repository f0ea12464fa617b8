"""Derived instruments: formulas, limits, round trips, safe states; on fakes and on a simulated DG645."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from qcodes import validators as vals
from qcodes.instrument import Instrument
from qcodes.parameters import ParameterBase

from drivers.delays.sim.srs_dg645 import SrsDg645Sim
from drivers.delays.srs_dg645 import SrsDg645
from labctl.instruments.base import LabInstrument
from labctl.instruments.capabilities import (
    Attenuator,
    Delay,
    Excitation,
    MirField,
    PowerMeter,
    PulsedSource,
    Shutter,
    missing_members,
)
from labctl.instruments.derived import (
    BurstDelay,
    FocusedMirField,
    GateShutter,
    PickoffPower,
    PulsedDiode,
    PulsedExcitation,
    WaveplateAttenuator,
    peak_field,
    pulse_energy,
)
from labctl.instruments.derived.parents import limits_of
from labctl.instruments.errors import CommandRejected, NotReady
from labctl.twin.knobs import PulseTrain
from tests.drivers.dg645_host import FakeWorld, TcpHost

NUMBER = itertools.count()


def fresh(kind: str) -> str:
    return f"{kind}_{next(NUMBER)}"


@pytest.fixture(autouse=True)
def close_instruments() -> Iterator[None]:
    yield
    Instrument.close_all()


class FakeRotator(LabInstrument):
    """A rotator that remembers where it was sent, within limits."""

    def __init__(self, low: float = 0.0, high: float = 360.0) -> None:
        super().__init__(fresh("rotator"))
        self._angle = low
        self.moves: list[float] = []
        self.failures = 0
        self.angle: ParameterBase = self.add_parameter(
            "angle", unit="deg", get_cmd=lambda: self._angle, set_cmd=self._move, vals=vals.Numbers(low, high)
        )

    def _move(self, angle: float) -> None:
        if self.failures:
            self.failures -= 1
            raise CommandRejected("busy", code=9, instrument=self.name)
        self.moves.append(angle)
        self._angle = angle

    def home(self) -> None:
        self._move(0.0)


def attenuator(rotator: FakeRotator, zero: float = 12.0, extinction: float = 1e-3) -> WaveplateAttenuator:
    return WaveplateAttenuator(
        fresh("attenuator"),
        rotator=rotator,
        zero_angle_deg=zero,
        extinction=extinction,
        max_power_w=2e-3,
    )


# attenuator


def test_malus() -> None:
    rotator = FakeRotator()
    att = attenuator(rotator)
    for angle, transmission in [(12.0, 1.0), (57.0, 1e-3), (34.5, 0.5005), (102.0, 1.0), (27.0, 0.75025)]:
        rotator.angle(angle)
        assert att.transmission() == pytest.approx(transmission, rel=1e-9)
        assert att.power() == pytest.approx(2e-3 * transmission, rel=1e-9)
        assert att.angle() == angle


@pytest.mark.parametrize("transmission", [1e-3, 0.0011, 0.01, 0.3, 0.5005, 0.999, 1.0])
@pytest.mark.parametrize("start", [0.0, 80.0, 200.0, 359.0])
def test_transmission_comes_back_on_the_same_branch(transmission: float, start: float) -> None:
    rotator = FakeRotator()
    rotator.angle(start)
    att = attenuator(rotator)
    att.transmission(transmission)
    assert att.transmission() == pytest.approx(transmission, rel=1e-9)
    assert -1e-9 <= (att.angle() - 12.0 + 1e-9) % 90.0 <= 45.0 + 1e-8, "falling branch"
    equivalent = [angle for n in range(-5, 6) if 0 <= (angle := att.angle() + 90 * n) <= 360]
    assert att.angle() == min(equivalent, key=lambda angle: abs(angle - start)), "the nearest one"


def test_power_is_set_through_the_transmission() -> None:
    att = attenuator(FakeRotator())
    for power in (2e-6, 1e-3, 2e-3):
        att.power(power)
        assert att.power() == pytest.approx(power, rel=1e-9)


def test_limits_of_the_attenuator() -> None:
    att = attenuator(FakeRotator())
    for bad in (-0.1, 0.0, 0.0009, 1.0001):
        with pytest.raises(ValueError, match="transmission"):
            att.transmission(bad)
    with pytest.raises(ValueError, match="power"):
        att.power(2.1e-3)


@pytest.mark.parametrize(("low", "high"), [(20.0, 50.0), (-90.0, -45.0), (10.0, 40.0)])
def test_limits_of_the_rotator_limit_the_transmission(low: float, high: float) -> None:
    rotator = FakeRotator(low, high)
    att = attenuator(rotator)
    lowest, highest = limits_of(att.transmission)
    assert 1e-3 <= lowest < highest <= 1.0
    for transmission in (lowest, (lowest + highest) / 2, highest):
        att.transmission(transmission)
        assert att.transmission() == pytest.approx(transmission, rel=1e-9)
        assert low <= rotator.angle() <= high


def test_a_rotator_that_never_reaches_the_branch() -> None:
    with pytest.raises(ValueError, match="hold none of the 45 deg"):
        attenuator(FakeRotator(60.0, 100.0))


def test_safe_attenuator_repeats_until_it_reads_back() -> None:
    rotator = FakeRotator()
    att = attenuator(rotator)
    att.transmission(1.0)
    rotator.failures = 1
    for _ in range(2):
        report = att.safe()
        assert report.safe, str(report)
        assert att.transmission() == pytest.approx(1e-3)
    assert att.state_text() == "transmission 0.001 at 57.000 deg"


# pick-off


class FakeMeter(LabInstrument):
    """A power meter that reads 1 uW."""

    def __init__(self) -> None:
        super().__init__(fresh("meter"))
        self.power: ParameterBase = self.add_parameter("power", unit="W", get_cmd=lambda: 1e-6, set_cmd=False)
        self.wavelength: ParameterBase = self.add_parameter(
            "wavelength", unit="m", set_cmd=None, initial_value=405e-9, vals=vals.Numbers(4e-7, 1.1e-6)
        )


def test_pickoff() -> None:
    meter = FakeMeter()
    pickoff = PickoffPower(fresh("pickoff"), meter=meter, ratio=0.05)
    assert pickoff.power() == pytest.approx(20e-6)
    pickoff.wavelength(5e-7)
    assert meter.wavelength() == 5e-7
    with pytest.raises(ValueError, match="wavelength"):
        pickoff.wavelength(2e-6)
    with pytest.raises(ValueError, match="must be positive"):
        PickoffPower(fresh("pickoff"), meter=meter, ratio=0.0)


# field and excitation


def test_field_of_one_microjoule() -> None:
    assert peak_field(1e-6, 50e-6, 150e-15) == pytest.approx(1.0962e9, rel=1e-5)
    assert peak_field(100e-9, 30e-6, 150e-15) == pytest.approx(5.78e8, rel=1e-3)
    assert peak_field(50e-9, 15e-6, 150e-15) == pytest.approx(8.17e8, rel=1e-3)
    assert peak_field(1.199e-6, 50e-6, 150e-15) == pytest.approx(12e8, rel=1e-3)
    assert pulse_energy(peak_field(3e-7, 5e-5, 2e-13), 5e-5, 2e-13) == pytest.approx(3e-7, rel=1e-12)


def mir(extinction: float = 1e-6) -> tuple[FocusedMirField, WaveplateAttenuator]:
    att = WaveplateAttenuator(
        fresh("mir_attenuator"),
        rotator=FakeRotator(),
        zero_angle_deg=31.5,
        extinction=extinction,
        max_power_w=1.199e-3,
    )
    return FocusedMirField(fresh("mir_field"), attenuator=att, waist_m=50e-6, pulse_width_s=150e-15), att


def test_field_is_set_through_the_transmission() -> None:
    field, att = mir()
    for value in (1e8, 5e8, 1.0e9):
        field.field(value)
        assert field.field() == pytest.approx(value, rel=1e-9)
    field.field(limits_of(field.field)[1])
    assert att.transmission() == pytest.approx(1.0)
    assert field.pulse_energy() == pytest.approx(1.199e-6)
    assert field.state_text() == "12.003 MV/cm, 1.2e-06 J"
    with pytest.raises(ValueError, match="field"):
        field.field(1.3e9)
    lowest = peak_field(limits_of(att.power)[0] / 1e3, 50e-6, 150e-15)
    field.field(0.0)
    assert field.field() == pytest.approx(lowest, rel=1e-6)


def test_without_extinction_the_field_reaches_zero() -> None:
    field, _ = mir(extinction=0.0)
    field.field(0.0)
    assert field.field() == pytest.approx(0.0, abs=1e-3)


def test_safe_field_is_the_lowest() -> None:
    field, att = mir()
    field.field(1e9)
    report = field.safe()
    assert report.safe and report.instrument == field.name
    assert att.transmission() == pytest.approx(1e-6)


# what the delay generator makes


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def generator(world: FakeWorld) -> Iterator[SrsDg645]:
    host = TcpHost(SrsDg645Sim(world, "dg"))
    dg = SrsDg645(fresh("dg"), host.address)
    dg.start()
    yield dg
    Instrument.close_all()
    host.close()


@pytest.fixture
def diode(generator: SrsDg645) -> PulsedDiode:
    diode = PulsedDiode(fresh("diode"), generator=generator)
    diode.start()
    return diode


def test_gate_shutter(generator: SrsDg645, world: FakeWorld) -> None:
    generator.output_ef.amplitude(5.0)
    shutter = GateShutter(fresh("mir_gate"), generator=generator)
    shutter.start()
    assert generator.output_ef.amplitude() == 0.5
    for opened in (True, False, True):
        shutter.open(opened)
        assert shutter.open() is opened
        assert world.knobs.mir_gate_v == 2.0 * opened
    assert shutter.state_text() == "open"
    for _ in range(2):
        assert shutter.safe().safe
        assert world.knobs.mir_gate_v == 0.0
    shutter.open(True)
    shutter.close()
    assert world.knobs.mir_gate_v == 0.0


def test_gate_needs_an_output_that_exists(generator: SrsDg645) -> None:
    with pytest.raises(ValueError, match="output_xy"):
        GateShutter(fresh("gate"), generator=generator, output="XY")


def test_shutter_closes_after_the_generator_without_harm(generator: SrsDg645) -> None:
    shutter = GateShutter(fresh("gate"), generator=generator)
    generator.close()
    shutter.close()


def test_safe_shutter_with_half_a_command_on_the_wire(generator: SrsDg645, world: FakeWorld) -> None:
    shutter = GateShutter(fresh("gate"), generator=generator)
    shutter.open(True)
    generator._wire.send(b"LOFF 1,")
    assert shutter.safe().safe
    assert world.knobs.mir_gate_v == 0.0


def test_safe_never_raises_on_a_lost_connection(generator: SrsDg645) -> None:
    shutter = GateShutter(fresh("gate"), generator=generator)
    generator._wire.close()
    report = shutter.safe()
    assert not report.safe and "connection is closed" in report.steps[0]


def test_diode_starts_dark_and_free_running(diode: PulsedDiode, world: FakeWorld) -> None:
    assert not diode.enabled() and not diode.synchronised()
    assert diode.rate() == diode.mean_rate() == 2.5e6
    assert diode.pulse_width() == 80e-12
    assert world.knobs.diode_train == PulseTrain(400_000, None, 0, "internal")
    assert world.knobs.diode_gate_v == 0.0
    assert diode.state_text() == "emission off, free running, 2.5e+06 Hz"


def test_diode_synchronised(diode: PulsedDiode, generator: SrsDg645, world: FakeWorld) -> None:
    diode.synchronised(True)
    diode.enabled(True)
    assert world.knobs.diode_train == PulseTrain(400_000, 2495, 0, "mir_trigger")
    assert world.knobs.diode_gate_v == 2.0
    assert diode.rate() == pytest.approx(2.5e6)
    assert diode.mean_rate() == 2495e3
    diode.rate(1e6)
    assert world.knobs.diode_train == PulseTrain(1_000_000, 998, 0, "mir_trigger")
    assert diode.mean_rate() == 998e3
    diode.rate(5e6)
    assert world.knobs.diode_train == PulseTrain(200_000, 4990, 0, "mir_trigger")
    diode.synchronised(False)
    assert diode.rate() == 5e6
    assert not generator.status().rate_error, "no mode on the way was too fast"


def test_diode_state_left_by_others(generator: SrsDg645, world: FakeWorld) -> None:
    generator.output_cd.offset(2.0)
    generator.channel_a.reference("H")
    generator.channel_b.delay(1.0)
    generator.trigger_source("external_falling")
    generator.burst(True)
    diode = PulsedDiode(fresh("diode"), generator=generator)
    diode.start()
    assert world.knobs.diode_gate_v == 0.0
    assert world.knobs.diode_train == PulseTrain(400_000, None, 0, "internal")


def test_diode_limits(diode: PulsedDiode, generator: SrsDg645) -> None:
    for bad in (500.0, 2e7):
        with pytest.raises(ValueError, match="rate"):
            diode.rate(bad)
    for rate in limits_of(diode.rate):
        diode.rate(rate)
        assert diode.rate() == pytest.approx(rate, rel=1e-6)
    with pytest.raises(ValueError, match="do not fit between triggers"):
        PulsedDiode(fresh("diode"), generator=generator, burst_count=2500)


def test_diode_is_not_enabled_without_triggers(diode: PulsedDiode, generator: SrsDg645) -> None:
    diode.synchronised(True)
    assert generator.safe().safe
    assert diode.mean_rate() == 0.0
    with pytest.raises(NotReady, match="set synchronised first"):
        diode.enabled(True)
    diode.synchronised(True)
    diode.enabled(True)
    assert diode.rate() == pytest.approx(2.5e6)


def test_diode_safe_and_close(diode: PulsedDiode, world: FakeWorld) -> None:
    for switch_off in (diode.safe, diode.close):
        diode.enabled(True)
        assert world.knobs.diode_gate_v == 2.0
        switch_off()
        assert world.knobs.diode_gate_v == 0.0


ZERO_S = 137.215e-9


def burst_delay(generator: SrsDg645, **options: Any) -> BurstDelay:
    generator.burst_period(400e-9)
    return BurstDelay(fresh("delay"), generator=generator, zero_s=ZERO_S, **options)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("delta", [-50e-9, -5e-12, 0.0, 20e-12, 100e-9, 262.785e-9, 399.995e-9, 400e-9])
def test_delay_round_trip(generator: SrsDg645, sign: int, delta: float) -> None:
    delay = burst_delay(generator, sign=sign)
    delay.delay(delta)
    assert delay.delay() == pytest.approx(delta, abs=1e-15)
    used = generator.burst_delay()
    assert 0.0 <= used < 400e-9, "the smallest burst delay"
    turns = (sign * (used - ZERO_S) - delta) / 400e-9
    assert turns == pytest.approx(round(turns), abs=1e-8)


def test_delay_steps_by_five_picoseconds(generator: SrsDg645) -> None:
    delay = burst_delay(generator)
    delay.delay(12e-12)
    assert abs(delay.delay() - 12e-12) <= delay.resolution() / 2
    assert (delay.resolution(), delay.wraps()) == (5e-12, 400e-9)


def test_delay_reads_the_generator(generator: SrsDg645) -> None:
    delay = burst_delay(generator)
    generator.burst_delay(ZERO_S + 100e-9)
    assert delay.delay() == pytest.approx(300e-9, abs=1e-15), "in [0, period) before the first setting"
    delay.delay(-40e-9)
    generator.burst_delay(ZERO_S + 100e-9)
    assert delay.delay() == pytest.approx(-100e-9, abs=1e-15), "nearest to the last setting"


def test_delay_keeps_a_least_burst_delay(generator: SrsDg645) -> None:
    delay = burst_delay(generator, min_burst_delay_s=1e-6)
    for delta in (-50e-9, 0.0, 400e-9):
        delay.delay(delta)
        assert 1e-6 <= generator.burst_delay() < 1.4e-6
        assert delay.delay() == pytest.approx(delta, abs=1e-15)


def test_delay_limits(generator: SrsDg645) -> None:
    delay = burst_delay(generator)
    for bad in (-51e-9, 401e-9):
        with pytest.raises(ValueError, match="delay"):
            delay.delay(bad)
    with pytest.raises(ValueError, match="sign"):
        burst_delay(generator, sign=2)
    generator.burst_period(300e-9)
    with pytest.raises(NotReady, match="burst period is 3e-07 s"):
        delay.delay(0.0)


def test_excitation(diode: PulsedDiode) -> None:
    att = attenuator(FakeRotator())
    excitation = PulsedExcitation(
        fresh("excitation"),
        attenuator=att,
        source=diode,
        pulse_energy_j=5e-14,
        energy_per_exciton_j=5e-14,
    )
    excitation.mean_excitons(0.2)
    assert att.transmission() == pytest.approx(0.2)
    assert excitation.mean_excitons() == pytest.approx(0.2)
    assert excitation.power() == pytest.approx(5e-14 * 0.2 * 2.5e6)
    with pytest.raises(ValueError, match="mean_excitons"):
        excitation.mean_excitons(1.1)
    report = excitation.safe()
    assert report.safe and excitation.mean_excitons() == pytest.approx(1e-3)


def test_capabilities_and_docstrings(diode: PulsedDiode, generator: SrsDg645) -> None:
    field, att = mir()
    pairs: list[tuple[LabInstrument, type]] = [
        (att, Attenuator),
        (field, MirField),
        (diode, PulsedSource),
        (GateShutter(fresh("gate"), generator=generator), Shutter),
        (burst_delay(generator), Delay),
        (PickoffPower(fresh("pickoff"), meter=FakeMeter(), ratio=0.1), PowerMeter),
        (
            PulsedExcitation(
                fresh("excitation"),
                attenuator=att,
                source=diode,
                pulse_energy_j=1.0,
                energy_per_exciton_j=1.0,
            ),
            Excitation,
        ),
    ]
    for instrument, capability in pairs:
        assert missing_members(instrument, capability) == []
        assert instrument.state_text()
        assert all(math.isfinite(value) for value in numbers_of(instrument))
        assert instrument.link is None


def numbers_of(instrument: LabInstrument) -> list[float]:
    values = [parameter() for name, parameter in instrument.parameters.items() if name != "IDN"]
    return [value for value in values if isinstance(value, float)]
