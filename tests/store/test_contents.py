"""Memos, the audit trail, monitors and discarded acquisitions: from the writer to the file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from labctl.store import AuditEntry, RunData, RunWriter, finish_journal, open_run
from tests.nexus import nxcheck

from .helpers import CHANNELS, assert_same_blocks, make_block


def write_rich(root: Path) -> RunWriter:
    writer = RunWriter.create(root, "rich", {})
    writer.memo("zero", {"delay": [1e-12, None]})
    writer.memo("choice", 3)
    writer.memo("choice", 4)
    setting = [1, 2]
    writer.audit("laser", "power", 5e-3, 1.0)
    writer.audit("awg", "sequence\0", setting, 2.0)
    setting.append(3)  # what was set was [1, 2]
    for k in range(7):
        writer.monitor("cryostat.temperature", 4.0 + k, "K", float(k))
    writer.monitor("dark", float("nan"), "", 9.0)
    for part in range(2):
        number = writer.begin_acquisition(CHANNELS, "delays", 3, 5.0, attempt=1, part=part)
        writer.tags(number, make_block(part, 50))
    writer.end_acquisition(0, 123)
    writer.discard(0, "detector guard\0")
    writer.event("note", 6.0, text="helium refilled")
    return writer


def check_rich(run: RunData) -> None:
    assert run.memos == {"zero": {"delay": [1e-12, None]}, "choice": 4}
    laser, awg = run.audit
    assert laser == AuditEntry(1.0, laser.wall_time_s, "laser", "power", 5e-3)
    assert (awg.instrument, awg.parameter, awg.value) == ("awg", "sequence\\0", [1, 2])
    assert laser.wall_time_s > 1.7e9
    temperature = run.monitors["cryostat.temperature"]
    np.testing.assert_array_equal(temperature.times_s, np.arange(7.0))
    np.testing.assert_array_equal(temperature.values, 4.0 + np.arange(7.0))
    assert temperature.unit == "K" and np.isnan(run.monitors["dark"].values).all()
    void, good = run.all_acquisitions
    assert run.acquisitions == [good]
    assert (void.discarded, void.part, void.ended, void.live_time_ps) == ("detector guard\\0", 0, True, 123)
    assert (good.discarded, good.part, good.attempt, good.ended) == ("", 1, 1, False)
    assert_same_blocks(list(run.tag_blocks(void)), [make_block(0, 50)])
    assert run.events[-1]["text"] == "helium refilled"


def test_everything_reads_alike_live_crashed_and_finished(tmp_path: Path) -> None:
    writer = write_rich(tmp_path)
    writer.flush()
    check_rich(open_run(writer.directory))
    writer.close()
    check_rich(open_run(writer.directory))
    check_rich(open_run(finish_journal(writer.directory)))


def test_the_file_has_logs_and_the_audit_table(tmp_path: Path) -> None:
    writer = write_rich(tmp_path)
    path = writer.finish("success")
    report = nxcheck(path)
    assert "Total number of warnings: 0" in report and "Total number of errors: 0" in report, report
    with h5py.File(path) as file:
        log = file["entry/environment/cryostat__temperature"]
        assert log.attrs["NX_class"] == "NXlog" and log["value"].attrs["units"] == "K"
        audit = file["entry/process/audit"]
        assert audit["instrument"].asstr()[0] == "laser" and audit["value"].asstr()[0] == "0.005"


@pytest.mark.parametrize(("part", "name"), [("value", "monitor"), ("wall_time_s", "audit")])
def test_a_file_that_differs_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    from labctl.store import StoreError, finish

    writer = write_rich(tmp_path)
    places = {"monitor": "environment/cryostat__temperature", "audit": "process/audit"}
    write_run = finish.write_run

    def spoil(path: Path, *args: Any) -> None:
        write_run(path, *args)
        with h5py.File(path, "r+") as file:
            file["entry"][places[name]][part][0] += 1

    monkeypatch.setattr(finish, "write_run", spoil)
    with pytest.raises(StoreError, match=f"{name}.*differs from the journal"):
        writer.finish("success")
    writer.close()
    check_rich(open_run(writer.directory))


def test_names_that_no_file_can_hold_are_refused(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path, "x", {}) as writer:
        with pytest.raises(ValueError, match="single dots"):
            writer.monitor("a/b", 1.0, "K", 0.0)
        with pytest.raises(ValueError, match="was not begun"):
            writer.discard(0, "why")


def test_an_end_declared_behind_lost_blocks_is_not_believed(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "lost", {})
    number = writer.begin_acquisition(CHANNELS, "s", 0, 0.0)
    block = make_block(1, 100)
    writer._blocks[number] += 1  # as if another block had been given and lost
    writer.tags(number, block)
    writer.end_acquisition(number, 10**15)
    (item,) = open_run(writer.finish("success")).acquisitions
    assert item.live_time_ps == block.live_time_ps and item.ended
