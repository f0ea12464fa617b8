"""The twin is no stage set: what happens to its light shows in the results, and another dot gives other numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import Taken, take

OTHER_DOT = {
    "world.dot.tau_x_s": 21e-9,
    "world.dot.eta_t": 0.25,
    "world.dot.charging_per_biexciton": 7e-4,
    "world.dot.neutralisation_rate_per_s": 25.0,
    "world.dot.discharge_field_mv_cm": 20.0,
}
USUAL_DOT = {"k_c": 4.0, "k_d": 10.0, "p_d": 0.63, "trion_fraction_off": 0.286, "trion_fraction_on": 0.0043}
MIR_SYNC = 4


def test_blinking_control_with_the_beam_block_in(tmp_path: Path) -> None:
    taken = take(tmp_path, "blinking_control", seed=1, block_mir_after_s=5.0, pairs=3, dwell=5.0)
    mir_on = taken.data.rows("blocks")["mir_on"].tolist()
    assert mir_on == [True, False, False, True, True, False]
    # the block falls into the beam at the end of the first point, which is one with MIR pulses
    assert taken.rates(MIR_SYNC) == [pytest.approx(1000, rel=1e-3), 0, 0, 0, 0, 0]
    assert "2 of 3 blocks with the gate open: 3, 4" in " ".join(taken.notes)
