"""The base class of drivers: parameters cannot be replaced, identities are checked, safe means read back."""

from collections.abc import Iterator

import pytest
from qcodes.validators import Numbers

from labctl.instruments.base import Identity, LabInstrument
from labctl.instruments.errors import IdentityMismatch, InstrumentDisconnected, InstrumentTimeout, NotReady


class Lamp(LabInstrument):
    """An instrument with one parameter and no wire."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.level = 0.0
        self.power = self.add_parameter(
            "power", unit="W", get_cmd=lambda: self.level, set_cmd=self._set, vals=Numbers(0, 1)
        )

    def _set(self, watts: float) -> None:
        self.level = watts

    def identity(self) -> Identity:
        return Identity("Acme", "Lamp 3", "s77")


class Clock:
    """A clock that only sleeping moves."""

    t = 0.0

    def now(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.t += seconds


@pytest.fixture
def lamp() -> Iterator[Lamp]:
    instrument = Lamp("lamp")
    instrument.clock = Clock()
    yield instrument
    instrument.close()


def test_a_parameter_is_not_replaced_by_a_number(lamp: Lamp) -> None:
    with pytest.raises(AttributeError, match=r"set it by calling lamp\.power\(5\)"):
        lamp.power = 5  # type: ignore[assignment]
    lamp.power(0.5)
    assert lamp.power() == 0.5


def test_a_misspelt_parameter_is_refused_once_started(lamp: Lamp) -> None:
    lamp.start()
    with pytest.raises(AttributeError, match=r"no parameter or attribute 'pwoer'"):
        lamp.pwoer = 0.5


@pytest.mark.parametrize("expected", ["", "lamp 3", "S77"])
def test_the_expected_identity_is_accepted(lamp: Lamp, expected: str) -> None:
    assert lamp.start(expected).model == "Lamp 3"


def test_another_instrument_is_refused(lamp: Lamp) -> None:
    with pytest.raises(IdentityMismatch, match=r"expected 'Lamp 4' but found Acme Lamp 3"):
        lamp.start("Lamp 4")


def test_closing_twice_is_harmless() -> None:
    instrument = Lamp("lamp")
    instrument.close()
    instrument.close()


def test_waiting_ends_at_the_deadline_of_the_bench_clock(lamp: Lamp) -> None:
    with pytest.raises(NotReady, match="not warm after 3 s"):
        lamp.wait_until(lambda: False, "warm", deadline_s=3.0)
    assert 3.0 <= lamp.clock.now() < 3.1


def test_safe_is_repeated_until_the_read_back_agrees(lamp: Lamp) -> None:
    attempts: list[int] = []
    report = lamp.attempt_safe(lambda: attempts.append(1), lambda: len(attempts) == 3, "off")
    assert report.safe and len(attempts) == 3
    assert report.steps == ("off: read-back disagrees", "off: read-back disagrees", "off: read-back agrees")


def test_safe_goes_on_after_a_time_out_but_not_without_a_connection(lamp: Lamp) -> None:
    errors = [InstrumentTimeout("late"), InstrumentDisconnected("gone")]

    def switch_off() -> None:
        raise errors.pop(0)

    report = lamp.attempt_safe(switch_off, lambda: True, "off")
    assert not report.safe and errors == []
    assert "NOT SAFE" in str(report)
