"""Opening instruments anew: attempts that hang do not pile up, a parent is established before its child."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.bench import safety
from labctl.bench.config import BenchConfig
from labctl.bench.rescue import MOST_HANGING, Charge, Rescue
from labctl.bench.safety import EMISSION
from labctl.instruments.base import LabInstrument, SafeReport
from tests.bench.stub import Lamp, Rogue


class Shade(LabInstrument):
    """In front of a lamp, which has to be established before it can be asked."""

    def __init__(self, name: str, *, clock: object, lamp: Lamp) -> None:
        super().__init__(name)
        self._lamp = lamp

    def safe(self) -> SafeReport:
        return SafeReport(self.name, self._lamp.established, ("shaded",))


class ModalLamp(Lamp):
    established = False

    def establish(self) -> None:
        self.established = True


DRIVERS = {"lamp": ModalLamp, "rogue": Rogue, "shade": Shade}


@pytest.fixture
def charge(tmp_path: Path) -> Charge:
    (tmp_path / "lamp").write_text("on")
    config = BenchConfig.model_validate(
        {
            "bench": "stubs",
            "instruments": {
                "lamp": {"driver": "x:Lamp", "address": "here"},
                "rogue": {"driver": "x:Rogue", "address": "there"},
                "shade": {"driver": "x:Shade", "uses": {"lamp": "lamp"}},
            },
        }
    )
    return Charge(config, DRIVERS, {"lamp": f"file://{tmp_path}/lamp", "rogue": "rogue:hang"})


@pytest.fixture
def rescue(charge: Charge) -> Iterator[Rescue]:
    made = Rescue(charge)
    yield made
    made.close()


def test_what_lies_beneath_is_established_for_the_rest(rescue: Rescue) -> None:
    reports = rescue.make_safe(["lamp", "shade"])
    assert [(report.instrument, report.safe) for report in reports] == [("lamp", True), ("shade", True)]


def test_hanging_attempts_do_not_pile_up(rescue: Rescue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "REST_LIMIT_S", 0.05)
    for _ in range(MOST_HANGING):
        (report,) = rescue.make_safe(["rogue"])
        assert "no answer within 0.05 s" in str(report)
        rescue.reopen(["rogue"])
    (report,) = rescue.make_safe(["rogue"])
    assert f"{MOST_HANGING} attempts hang" in str(report)


def test_only_what_is_needed_is_opened(charge: Charge, tmp_path: Path) -> None:
    rescue = Rescue(replace(charge, stages={"shade": EMISSION}), ["shade"])
    (report,) = rescue.make_safe()
    assert report.instrument == "shade" and not report.safe  # nothing is established for a source
    assert not LabInstrument.exist("rogue")
    rescue.close()
    assert not LabInstrument.exist("lamp")
