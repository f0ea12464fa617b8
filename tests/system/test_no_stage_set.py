"""The twin is no stage set: what happens to the light shows everywhere; another dot gives other numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.bench.bench import TwinOptions, open_bench
from tests.system.conftest import BENCH, take

OTHER_DOT = {
    "world.dot.tau_x_s": 21e-9,
    "world.dot.eta_t": 0.25,
    "world.dot.charging_per_biexciton": 7e-4,
    "world.dot.neutralisation_rate_per_s": 25.0,
    "world.dot.discharge_field_mv_cm": 20.0,
}
USUAL_DOT = {"k_c": 4.0, "k_d": 10.0, "p_d": 0.63, "trion_fraction_on": 0.0043}
DETECTORS = [1, 2]
MIR_SYNC = 4


def test_a_beam_block_is_seen_by_detectors_meter_and_tagger() -> None:
    with open_bench(BENCH, TwinOptions(seed=1)) as bench:
        assert bench.twin is not None
        bench.diode.synchronised(True)
        bench.excitation.mean_excitons(0.1)
        bench.mir_field.field(5e8)

        def look() -> tuple[float, float, float]:
            rates = bench.tagger.count_rates([*DETECTORS, MIR_SYNC], 0.5)
            return rates[1] + rates[2], bench.power_meter.power(), rates[MIR_SYNC]

        dark = look()
        bench.diode.enabled(True)
        bench.mir_gate.open(True)
        lit = look()
        bench.twin.client.set_knob("vis_blocked", True)
        bench.twin.client.set_knob("mir_blocked", True)
        blocked = look()
        bench.twin.client.set_knob("vis_blocked", False)
        bench.twin.client.set_knob("mir_blocked", False)
        again = look()
    # some hundred dark counts and, lit, some six thousand photons: the bounds are beyond five sigma
    for photons, watts, kicks in (dark, blocked):
        assert 80 < photons < 350 and abs(watts) < 0.05 * lit[1] and kicks == 0
    for photons, watts, kicks in (lit, again):
        assert 8000 < photons < 14000 and watts == pytest.approx(lit[1], rel=0.05) and kicks == 1000


def test_blinking_control_without_mir_pulses_finds_no_effect(tmp_path: Path) -> None:
    taken = take(tmp_path, "blinking_control", seed=2, block_mir_after_s=5.0, pairs=3, dwell=5.0)
    assert taken.data.rows("blocks")["mir_on"].tolist() == [False, True, True, False, False, True]
    assert taken.verdict.startswith("no effect")  # for 95 of 100 seeds, by construction
    assert taken.notes == ["no MIR pulses were seen (channel 4) in 3 of 3 blocks with the gate open: 1, 2, 5"]
    ratio = taken.estimate("trion_fraction_ratio")
    assert abs(ratio.value - 1) < 4 * ratio.error
    assert taken.rates(MIR_SYNC) == [0] * 6


def test_delay_scan_without_mir_pulses_finds_no_effect(tmp_path: Path) -> None:
    taken = take(
        tmp_path, "delay_scan", seed=1, block_mir_after_s=0,
        delays="points(0.3 ns, 5 ns, 15 ns, 30 ns, 60 ns, 200 ns)", dwell=4.0, reference_every=0,
    )  # fmt: skip
    assert taken.verdict.startswith("no effect")  # for 95 of 100 seeds, by construction
    assert taken.notes[0] == "no MIR pulses were seen (channel 4) at 6 of 6 points"
    assert any("tau_x: unconstrained" in note for note in taken.notes)
    assert taken.rates(MIR_SYNC) == [0] * 6


def test_blinking_control_finds_the_rates_of_another_dot(tmp_path: Path) -> None:
    taken = take(tmp_path, "blinking_control", seed=0, overrides=OTHER_DOT, pairs=4, dwell=10.0)
    assert taken.outcome.truth["k_d"] == 25.0
    for quantity, usual in USUAL_DOT.items():
        found = taken.estimate(quantity)
        assert abs(taken.pull(quantity)) < 4, quantity
        assert abs(found.value - usual) > 5 * found.error, quantity


def test_delay_scan_finds_the_lifetime_of_another_dot(tmp_path: Path) -> None:
    taken = take(
        tmp_path, "delay_scan", seed=1, overrides=OTHER_DOT, field=12e8, mean_excitons=0.5,
        delays="points(0.3 ns, 3 ns, 10 ns, 20 ns, 35 ns, 60 ns, 200 ns)", dwell=12.0, reference_every=0,
    )  # fmt: skip
    assert taken.outcome.truth["tau_X"] == 21e-9
    for quantity in ("tau_X", "p_i", "tau_X_by_period"):
        assert abs(taken.pull(quantity)) < 4, quantity
    assert taken.pull("tau_X_by_period", 30e-9) < -2
