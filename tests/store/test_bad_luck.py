"""Full, slow, read-only and lying disks, clocks that jump, journals that are spoilt, and runs that died."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labctl.store import RunWriter, StoreError, disk, finish_journal, open_run, read_journal, recover_orphans
from labctl.store import repair as repair_module
from labctl.store import reserve as reserve_module
from labctl.store.codec import CHUNK
from labctl.store.journal import Journal
from labctl.store.records import Kind
from labctl.store.reserve import Reserve

from .helpers import CHANNELS, assert_same_blocks, make_block, read_all_blocks, write_scan
from .test_seal import LIMIT, check_long, write_long


def spoil(path: Path, record: int) -> None:
    """Flip a bit of the payload of a record."""
    found = next(item for item in read_journal(path) if item.seq == record)
    data = bytearray(found.path.read_bytes())
    data[found.data_offset - 3] ^= 1
    found.path.write_bytes(data)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, code: int, freed_by: Path) -> None:
    """Every write fails as long as the file `freed_by` takes its space."""
    real_write = os.write

    def write(fd: int, data: Any) -> int:
        if freed_by.exists():
            raise OSError(code, os.strerror(code))
        return real_write(fd, data)

    monkeypatch.setattr(disk.os, "write", write)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_the_reserve_is_there_for_the_last_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    writer, blocks = write_scan(tmp_path)
    reserve = writer.directory / "run.reserve"
    assert reserve.stat().st_size == 24 << 20 and not writer.disk_low
    with monkeypatch.context() as patch:
        fill_the_disk(patch, code, reserve)
        writer.event("last words", 9.0)
        writer.flush()
        assert not reserve.exists() and writer.disk_low
    run = open_run(writer.finish("abort", "disk full"))
    assert run.events[-1]["kind"] == "last words"
    assert_same_blocks(read_all_blocks(run), blocks)
    assert [item.name for item in run.directory.iterdir()] == ["run.h5"]


def test_the_disk_is_low_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, now = [10 << 30], [0.0]
    monkeypatch.setattr(reserve_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    monkeypatch.setattr(reserve_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reserve = Reserve(tmp_path, size=1 << 20, low_bytes=1 << 30)
    assert not reserve.low
    free[0] = 1 << 29
    assert not reserve.low  # it has looked just now
    now[0] = 2.0
    assert reserve.low
    assert reserve.release() and not reserve.release()
    free[0], now[0] = 2 << 30, 4.0
    assert not reserve.low and (tmp_path / "run.reserve").exists()  # there is room again


def test_the_reserve_grows_with_the_rows(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path, "x", {}) as writer:
        reserve = writer.directory / "run.reserve"
        text = "x" * 1_000_000
        for index in range(10):
            writer.row("s", index, 0, {"text": text}, {}, 0.0)
        assert reserve.stat().st_size == 32 << 20
    assert not reserve.exists()


def test_no_room_for_the_reserve_is_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, size: int) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "reserve", refuse)
    with RunWriter.create(tmp_path, "x", {}) as writer:
        assert writer.disk_low and not (writer.directory / "run.reserve").exists()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StoreError, match=f"{tmp_path}: no run can be written there"):
            RunWriter.create(tmp_path, "x", {})
    with monkeypatch.context() as patch:
        patch.setattr(disk, "open_to_append", refuse)
        with pytest.raises(StoreError, match=r"run\.journal: cannot be written"):
            RunWriter.create(tmp_path, "x", {})
    writer, blocks = write_scan(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "new_hdf5", refuse)
        with pytest.raises(StoreError, match=r"run\.h5\.tmp: cannot be written"):
            writer.finish("success")
    assert_same_blocks(read_all_blocks(open_run(writer.finish("success"))), blocks)


def test_a_folder_that_exists_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labctl.store import folder

    tokens = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(folder.secrets, "token_hex", lambda size: next(tokens))
    monkeypatch.setattr(folder, "_run_name", lambda now, name, token: f"120000_{name}_{token}")
    first = RunWriter.create(tmp_path, "x", {"seed": 1})
    second = RunWriter.create(tmp_path, "x", {"seed": 2})
    assert first.directory.name.endswith("aaaaaa") and second.directory.name.endswith("bbbbbb")
    assert open_run(first.finish("success")).header["seed"] == 1
    second.close()


def test_a_clock_that_goes_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([1.9e9, 1.8e9, 1.85e9, 1.7e9, 1.6e9, 1.5e9, 1.4e9])
    writer = RunWriter.create(tmp_path, "jump", {})
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: next(wall))
        for index in range(5):
            writer.row("s", index, 0, {"x": float(index)}, {}, float(index))
        writer.flush(durable=True)
        path = writer.finish("success")
    rows = open_run(path).rows("s")
    np.testing.assert_array_equal(rows["x"], np.arange(5.0))
    np.testing.assert_array_equal(rows["wall_time"], [1.9e9, 1.8e9, 1.85e9, 1.7e9, 1.6e9])


def test_damage_in_the_middle_costs_only_what_it_hits(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path, points=8, tags=CHUNK // 3)
    writer.close()
    journal = writer.directory / "run.journal"
    tag_records = [record.seq for record in read_journal(journal) if record.kind is Kind.TAGS]
    spoil(journal, tag_records[4])
    before = open_run(writer.directory)
    assert "wrong checksum" in before.damage[0] and before.rows("delays")["index"].size == 8
    run = open_run(finish_journal(writer.directory))
    assert run.damage == () and run.rows("delays")["index"].size == 8
    event = run.events[-1]
    assert event["kind"] == "damage" and event["lost_blocks"] == 0 and "1 records lost" in event["damages"][0]
    assert_same_blocks(read_all_blocks(run), blocks[:4] + blocks[5:])
    lives = [item.live_time_ps for item in run.acquisitions]
    assert lives == [0 if k == 4 else block.live_time_ps for k, block in enumerate(blocks)]
    names = sorted(item.name for item in writer.directory.iterdir())
    assert names == ["run.h5", "run.journal.damaged"]


def test_every_record_may_be_the_spoilt_one(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path, points=4, tags=30)
    writer.close()
    journal = writer.directory / "run.journal"
    good, kinds = journal.read_bytes(), [record.kind for record in read_journal(journal)]
    for number in range(1, len(kinds)):
        folder = tmp_path / f"spoilt{number}"
        folder.mkdir()
        (folder / "run.journal").write_bytes(good)
        spoil(folder / "run.journal", number)
        run = open_run(finish_journal(folder))
        lost = kinds[number]
        rows = run.rows("delays")["index"].size
        assert rows == 4 - (lost is Kind.ROW)
        found = [block for item in run.all_acquisitions for block in run.tag_blocks(item)]
        wanted = list(blocks)
        if lost is Kind.TAGS:
            del wanted[kinds[:number].count(Kind.TAGS)]
        key = {tuple(block.times_ps.tolist()) for block in found}
        assert key == {tuple(block.times_ps.tolist()) for block in wanted}


def test_damage_to_a_sealed_run(tmp_path: Path) -> None:
    writer, blocks = write_long(tmp_path)
    writer._journal.close()
    writer.close()
    journal = writer.directory / "run.journal"
    rows = [record.seq for record in read_journal(journal) if record.kind is Kind.ROW]
    spoil(journal, rows[1])
    run = open_run(finish_journal(writer.directory))
    assert_same_blocks(read_all_blocks(run), blocks)
    assert run.rows("delays")["index"].tolist() == [0, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("step", range(6))
def test_a_repair_that_was_cut_short_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    writer, blocks = write_long(tmp_path)
    writer.close()
    journal = writer.directory / "run.journal"
    spoil(journal, [record.seq for record in read_journal(journal) if record.kind is Kind.ROW][2])
    steps = [0]

    class Died(Exception):
        pass

    def dying(call: Any) -> Any:
        def step_or_die(*args: Any) -> Any:
            steps[0] += 1
            if steps[0] > step:
                raise Died
            return call(*args)

        return step_or_die

    with monkeypatch.context() as patch:
        for name in ("rename", "keep_as", "sync_folder"):
            patch.setattr(repair_module.disk, name, dying(getattr(disk, name)))
        with pytest.raises(Died):
            repair_module.repair(journal)
            raise Died
    run = open_run(finish_journal(writer.directory))
    assert_same_blocks(read_all_blocks(run), blocks)
    assert run.rows("delays")["index"].tolist() == [0, 1, 3, 4, 5, 6]


def test_a_spoilt_run_goes_on(tmp_path: Path) -> None:
    writer, blocks = write_long(tmp_path)
    writer.close()
    journal = writer.directory / "run.journal"
    rows = [record.seq for record in read_journal(journal) if record.kind is Kind.ROW]
    spoil(journal, rows[-1])  # the last record
    spoil(journal, rows[0])
    resumed = RunWriter.resume(writer.directory, segment_limit=LIMIT)
    resumed.row("delays", 6, 0, {"delay": 0.0, "rate": 0.0, "rate_error": 0.0}, {}, 0.0)
    run = open_run(resumed.finish("success"))
    assert_same_blocks(read_all_blocks(run), blocks)
    assert run.rows("delays")["index"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_journal_of_schema_1_says_who_can_read_it(tmp_path: Path) -> None:
    (tmp_path / "run.journal").write_bytes(b"LJ1\n" + bytes(100))
    with pytest.raises(StoreError, match=r"a record of labctl 0\.1"):
        finish_journal(tmp_path)


def test_append_does_not_wait_for_ever(tmp_path: Path) -> None:
    gate, journal = threading.Event(), Journal(tmp_path / "j", backlog_limit=1000, patience_s=0.01)

    def wait_for_gate() -> tuple[dict[str, int], list[bytes]]:
        assert gate.wait(10)
        return {}, []

    assert not journal.backlog_full
    journal.append_encoded(Kind.TAGS, wait_for_gate, 2000)
    assert journal.backlog_full and journal.backlog_bytes == 2000
    with pytest.raises(StoreError, match="the disk does not keep up"):
        journal.append(Kind.EVENT, {})
    gate.set()
    journal.flush()
    assert not journal.backlog_full and journal.append(Kind.EVENT, {}) == 1
    journal.close()


def test_notes_are_written_with_the_next_record_or_soon(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for number in range(3):
        journal.note(Kind.AUDIT, f"[{number}]")
    journal.append(Kind.EVENT, {})
    journal.flush()
    assert [(r.kind, r.header) for r in read_journal(tmp_path / "j")] == [
        (Kind.AUDIT, {"entries": [[0], [1], [2]]}),
        (Kind.EVENT, {}),
    ]
    journal.note(Kind.MONITOR, "[4]")
    deadline = time.monotonic() + 10
    while journal.acknowledged < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    journal.close()
    with pytest.raises(StoreError, match="the run is finished"):
        journal.note(Kind.AUDIT, "[]")


def test_what_nobody_flushes_becomes_durable(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", sync_period_s=0.01)
    journal.append(Kind.EVENT, {})
    deadline = time.monotonic() + 10
    while journal.durable < 1:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    journal.close()


def test_orphans_are_recovered_and_can_still_go_on(tmp_path: Path) -> None:
    alive, _ = write_scan(tmp_path)
    dead, blocks = write_scan(tmp_path)
    dead.close()
    finished = write_scan(tmp_path)[0].finish("success")
    stillborn = tmp_path / "2026-01-01" / "120000_x_abcdef"
    stillborn.mkdir(parents=True)
    (stillborn / "run.journal").write_bytes(b"LJ2\nhalf")
    hopeless = tmp_path / "2026-01-01" / "120001_x_abcdef"
    hopeless.mkdir()
    (hopeless / "run.journal").write_bytes(bytes(1000))
    found = {item.directory: item for item in recover_orphans(tmp_path)}
    assert set(found) == {dead.directory, stillborn, hopeless}
    assert found[dead.directory].status == "recovered" and not found[dead.directory].error
    assert not stillborn.exists()
    assert "no header" in found[hopeless].error and (hopeless / "run.journal").exists()
    assert open_run(finished).status == "success" and open_run(alive.directory).status == "running"
    assert [item.directory for item in recover_orphans(tmp_path)] == [hopeless]
    resumed = RunWriter.resume(dead.directory)
    number = resumed.begin_acquisition(CHANNELS, "delays", 9, 0.0)
    resumed.tags(number, make_block(9, 9))
    assert_same_blocks(read_all_blocks(open_run(resumed.finish("success"))), [*blocks, make_block(9, 9)])
    alive.close()


def test_recovered_after_recovered(tmp_path: Path) -> None:
    writer, blocks = write_long(tmp_path)
    writer.close()
    for _ in range(3):
        check_long(open_run(finish_journal(writer.directory)), blocks)
        RunWriter.resume(writer.directory, segment_limit=LIMIT).close()
    check_long(open_run(writer.directory), blocks)
