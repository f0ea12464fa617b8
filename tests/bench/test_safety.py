"""Stages, wires and limits: whatever one instrument does, all the others are made safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labctl.bench.safety import (
    EMISSION,
    SHUTTERS,
    THE_REST,
    SafeStep,
    beneath,
    carry_out,
    make_safe,
    stage_of,
    within,
)
from labctl.instruments.base import LabInstrument, SafeReport
from tests.bench.conftest import DEADLINE_S
from tests.bench.stub import Lamp, Rogue


@dataclass
class Bench:
    """Steps that note when they are carried out."""

    order: list[str] = field(default_factory=list)

    def step(self, name: str, stage: int = THE_REST, touches: str = "", meet: threading.Barrier | None = None,
             then: Callable[[], None] = lambda: None) -> SafeStep:  # fmt: skip
        def action() -> SafeReport:
            if meet is not None:
                meet.wait(DEADLINE_S)
            self.order.append(name)
            then()
            return SafeReport("an alias", True, ("done",))

        return SafeStep(name, stage, action, frozenset(touches.split()))


@pytest.fixture
def instruments(tmp_path: Path) -> Iterator[dict[str, LabInstrument]]:
    (tmp_path / "lamp").write_text("on")
    made: dict[str, LabInstrument] = {
        "lamp": Lamp("lamp", f"file://{tmp_path}/lamp"),
        "raiser": Rogue("raiser", "rogue:raise"),
        "hanger": Rogue("hanger", "rogue:hang"),
    }
    yield made
    for instrument in made.values():
        instrument.close()


def test_shutters_then_emission_then_the_rest_the_last_built_first() -> None:
    bench = Bench()
    steps = [
        bench.step("generator", touches="generator"), bench.step("cryostat", touches="generator"),
        bench.step("laser", EMISSION, "w"), bench.step("gate", SHUTTERS, "w"),
        bench.step("diode", EMISSION, "w"),
    ]  # fmt: skip
    reports = carry_out(steps, patience_s={SHUTTERS: DEADLINE_S, EMISSION: DEADLINE_S})
    assert bench.order == ["gate", "diode", "laser", "cryostat", "generator"]
    assert [report.instrument for report in reports] == bench.order
    assert all(report.safe for report in reports)


def test_different_wires_at_the_same_time() -> None:
    bench, meet = Bench(), threading.Barrier(3)  # breaks unless all three are on their way together
    steps = [bench.step(name, touches=name, meet=meet) for name in "abc"]
    assert all(report.safe for report in carry_out(steps))


def test_one_wire_one_after_the_other() -> None:
    busy = threading.Lock()

    def alone() -> None:
        assert busy.acquire(blocking=False)
        threading.Event().wait(0.01)
        busy.release()

    bench = Bench()
    # a and c have nothing in common, but b is on the wire of both
    wires = {"a": "x", "b": "x y", "c": "y"}
    reports = carry_out([bench.step(name, touches=wire, then=alone) for name, wire in wires.items()])
    assert all(report.safe for report in reports), reports


def test_one_that_hangs_and_one_that_raises_keep_nobody(instruments: dict[str, LabInstrument]) -> None:
    reports = {report.instrument: report for report in make_safe(instruments, limit_s=0.2)}
    assert reports["lamp"].safe and not instruments["lamp"].parameters["emission"]()
    assert str(reports["raiser"]) == "raiser: NOT SAFE (safe() failed: the key is stuck)"
    assert str(reports["hanger"]) == "hanger: NOT SAFE (safe() failed: it gave no answer within 0.2 s)"


def test_a_stage_that_hangs_does_not_hold_up_the_next() -> None:
    bench, released = Bench(), threading.Event()
    steps = [
        bench.step("laser", EMISSION, "laser", then=released.set),
        bench.step("shutter", SHUTTERS, "shutter", then=lambda: released.wait(DEADLINE_S) or None),
    ]
    assert all(report.safe for report in carry_out(steps))
    assert bench.order == ["shutter", "laser"]


def test_a_hung_step_does_not_end_its_wire() -> None:
    bench = Bench()
    steps = [bench.step("parent", touches="w"),
             bench.step("child", touches="w", then=lambda: threading.Event().wait() or None)]  # fmt: skip
    child, parent = carry_out([replace(step, limit_s=0.1) for step in steps])
    assert not child.safe and parent.safe


def test_stages_are_told_by_parameters(instruments: dict[str, LabInstrument]) -> None:
    assert [stage_of(instrument) for instrument in instruments.values()] == [EMISSION, THE_REST, THE_REST]


def test_what_lies_beneath() -> None:
    uses = {"excitation": ["attenuator", "diode"], "attenuator": ["rotator"], "diode": ["generator"]}
    assert beneath("excitation", uses) == {"excitation", "attenuator", "diode", "rotator", "generator"}
    assert beneath("rotator", uses) == {"rotator"}


def test_within_gives_results_and_errors() -> None:
    assert within(DEADLINE_S, lambda: 3, "three") == 3
    with pytest.raises(ZeroDivisionError):
        within(DEADLINE_S, lambda: 1 / 0, "nothing")
    with pytest.raises(TimeoutError, match=r"closing gave no answer within 0\.05 s"):
        within(0.05, threading.Event().wait, "closing")
