"""Calibrations: kept for ever, exact, chosen by time and validity."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.store import RunWriter, StoreError, open_run
from labctl.store.calibrations import (
    Calibration,
    CalibrationStore,
    calibrated,
    calibration_from,
    choose_calibrations,
)
from tests.cli.commands import environment

DAY = timedelta(days=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def zero(value: float = 5.1e-6, made_at: datetime = NOON, **more: Any) -> Calibration:
    return Calibration("dot_lab", "delay_zero", value, 1e-9, "s", "cross-correlation", made_at, **more)


def values(store: CalibrationStore) -> list[Any]:
    return [c.value for c in store.history("dot_lab", "delay_zero")]


def test_all_that_was_ever_added_is_kept_in_its_order(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    assert store.benches() == [] and store.latest("dot_lab", "delay_zero") is None
    store.add(zero(2.0, NOON + DAY))
    store.add(zero(1.0, NOON))
    assert values(store) == [1.0, 2.0]
    assert values(CalibrationStore(tmp_path)) == [1.0, 2.0]
    assert store.benches() == ["dot_lab"]
    assert (store.names("dot_lab"), store.names("other")) == (["delay_zero"], [])


def test_a_calibration_survives_exactly(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    made = zero(0.1 + 0.2, valid_until=NOON + DAY, run_uuid="u", run_path="runs/x", serials={"tagger": "17"})
    store.add(made)
    found = store.latest("dot_lab", "delay_zero", NOON)
    assert found is not None and vars(found) == vars(made)


def test_arrays_survive_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    irf = {"time_s": np.arange(5) * 1e-12, "counts": rng.integers(0, 9, 5, dtype=np.uint16)}
    irf["odd"] = np.array([np.nan, np.inf, -0.0, 5e-324])
    store = CalibrationStore(tmp_path)
    store.add(Calibration("b", "irf", irf, {"counts": np.sqrt(irf["counts"])}, "", "pulsed laser", NOON))
    found = store.latest("b", "irf")
    assert found is not None and isinstance(found.value, dict) and isinstance(found.error, dict)
    for name, array in irf.items():
        assert found.value[name].dtype == array.dtype
        assert found.value[name].tobytes() == array.tobytes()
    assert found.error["counts"].tobytes() == np.sqrt(irf["counts"]).tobytes()


def test_the_newest_valid_one_is_in_use_and_a_time_chooses_an_older_one(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.add(zero(1.0, NOON, valid_until=NOON + 10 * DAY))
    store.add(zero(2.0, NOON + DAY, valid_until=NOON + 2 * DAY))

    def in_use(at: datetime) -> Any:
        found = store.latest("dot_lab", "delay_zero", at)
        return found and (found.value, found.stale(at))

    assert in_use(NOON - DAY) is None
    assert in_use(NOON) == (1.0, False)
    assert in_use(NOON + 1.5 * DAY) == (2.0, False)
    assert in_use(NOON + 3 * DAY) == (1.0, False)
    assert in_use(NOON + 11 * DAY) == (2.0, True)


def test_a_line_that_was_cut_is_left_out_and_spoils_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CalibrationStore(tmp_path)
    store.add(zero(1.0))
    (file,) = (tmp_path / "calibrations" / "dot_lab").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    store.add(zero(2.0))
    with caplog.at_level(logging.WARNING):
        assert values(store) == [1.0, 2.0]
    assert f"{file}:2: left out" in caplog.text
    assert file.read_bytes().startswith(whole + whole[:40] + b"\n")


ADD = """
import sys
from datetime import UTC, datetime
from labctl.store.calibrations import Calibration, CalibrationStore

store = CalibrationStore(sys.argv[1])
for n in range(40):
    store.add(Calibration("b", "many", float(n), None, "", sys.argv[2], datetime.now(UTC)))
"""


def test_several_processes_add_without_spoiling_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD, str(tmp_path)]
    adders = [subprocess.Popen([*command, str(who)], env=environment()) for who in range(3)]
    assert [adder.wait(60) for adder in adders] == [0, 0, 0]
    found = CalibrationStore(tmp_path).history("b", "many")
    for who in "012":
        assert [c.value for c in found if c.method == who] == list(range(40))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../x"}, "use letters"),
        ({"bench": ""}, "use letters"),
        ({"value": float("nan")}, "finite"),
        ({"error": float("inf")}, "finite"),
        ({"made_at": datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_what_is_no_calibration_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Calibration(**{**vars(zero()), **change})


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "calibrations").touch()
    with pytest.raises(StoreError, match=r"delay_zero\.jsonl: the calibration was not kept"):
        CalibrationStore(tmp_path).add(zero())


def test_a_run_makes_a_calibration(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "zero_scan", {"bench": "dot_lab"})
    data = open_run(writer.finish("success"))
    made = calibration_from(data, "delay_zero", 5e-6, 1e-9, unit="s", method="edge fit", valid_for=DAY)
    assert (made.bench, made.run_uuid, made.run_path) == ("dot_lab", data.header["uuid"], str(data.directory))
    assert made.valid_until == made.made_at + DAY
    assert made.made_at.isoformat() == data.header["start_time"]


IDENTITIES = {"tagger": "Swabian Time Tagger 20, s/n 17"}


def choose(store: CalibrationStore, *names: str, at: datetime = NOON) -> Any:
    return choose_calibrations(store, "dot_lab", names, IDENTITIES, at)


def test_what_a_run_uses_goes_into_its_header(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.add(zero(5.1e-6, serials={"tagger": "s/n 17"}))
    chosen = choose(store, "delay_zero")
    assert chosen.warnings == []
    header = {"calibrations": chosen.used, "bench_values": {"delay_zero": 1.0, "skew": 2}}
    header = json.loads(json.dumps(header))
    assert calibrated(header, "delay_zero") == 5.1e-6
    assert calibrated(header, "skew") == 2.0
    with pytest.raises(StoreError, match="no calibration 'irf'"):
        calibrated(header, "irf")


def test_missing_stale_and_foreign_calibrations_are_warnings(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.add(zero(valid_until=NOON + DAY, serials={"tagger": "s/n 18", "laser": "X"}))
    chosen = choose(store, "delay_zero", "irf", at=NOON + 2 * DAY)
    stale, foreign, gone, missing = chosen.warnings
    assert "'delay_zero' of dot_lab was valid until 2026-01-02" in stale
    assert "belongs to tagger s/n 18, but there is Swabian Time Tagger 20, s/n 17" in foreign
    assert "belongs to laser X, but there is none" in gone
    assert missing == "dot_lab has no calibration 'irf'; the value of the bench file is used"
    assert list(chosen.used) == ["delay_zero"]
