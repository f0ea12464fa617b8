"""The journal: counters, what a cut or spoilt file still gives, and what a failing disk does."""

from __future__ import annotations

import errno
import os
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import pytest

from labctl.store import StoreError, disk, finish_journal, open_run, read_journal
from labctl.store import finish as finish_module
from labctl.store.journal import Journal
from labctl.store.records import Kind

from .helpers import assert_same_blocks, make_block, read_all_blocks, write_scan


def encode(number: int) -> tuple[dict[str, int], list[bytes]]:
    return {"number": number}, [bytes([number]) * number]


def write_events(path: Path, count: int) -> None:
    journal = Journal(path)
    for number in range(count):
        journal.append(Kind.EVENT, {"number": number})
        journal.append_encoded(Kind.TAGS, partial(encode, number), 1)
    journal.flush(durable=True)
    assert journal.acknowledged == journal.durable == journal.appended == 2 * count
    journal.close()


def test_records_come_back_in_order(tmp_path: Path) -> None:
    write_events(tmp_path / "j", 5)
    reader = read_journal(tmp_path / "j")
    records = list(reader)
    assert [record.seq for record in records] == list(range(10))
    assert bytes(records[9].data) == b"\x04" * 4 and records[9].kind is Kind.TAGS
    assert reader.end.reason == "" and reader.end.offset == (tmp_path / "j").stat().st_size


def test_truncation_at_any_byte_loses_only_the_last_records(tmp_path: Path) -> None:
    write_events(tmp_path / "j", 4)
    data, cut = (tmp_path / "j").read_bytes(), tmp_path / "cut"
    records = list(read_journal(tmp_path / "j"))
    ends = [record.data_offset + len(record.data) for record in records]
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        reader = read_journal(cut)
        assert len(list(reader)) == sum(end <= size for end in ends)
        assert reader.end.reason == ("" if size in (0, *ends) else "torn")
        assert not reader.end.corrupt


def test_a_spoilt_byte_costs_one_record(tmp_path: Path) -> None:
    write_events(tmp_path / "j", 4)
    data = bytearray((tmp_path / "j").read_bytes())
    records = list(read_journal(tmp_path / "j"))
    ends = [0, *(record.data_offset + len(record.data) for record in records)]
    for position in range(0, len(data), 3):
        spoilt = bytearray(data)
        spoilt[position] ^= 0x40
        (tmp_path / "spoilt").write_bytes(spoilt)
        reader = read_journal(tmp_path / "spoilt")
        hit = next(number for number, end in enumerate(ends[1:]) if position < end)
        assert [record.seq for record in reader] == [n for n in range(len(records)) if n != hit]
        if hit == len(records) - 1:
            assert reader.end.offset == ends[hit] and reader.end.reason
        else:
            (damage,) = reader.end.damages
            assert (damage.offset, damage.size, damage.lost) == (ends[hit], ends[hit + 1] - ends[hit], 1)


def test_run_cut_anywhere_is_recovered_up_to_the_cut(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path / "whole", points=3, tags=40)
    writer.close()
    journal = writer.directory / "run.journal"
    data, records = journal.read_bytes(), list(read_journal(journal))
    header_end = records[0].data_offset + len(records[0].data)
    for number, size in enumerate(range(header_end, len(data), 131)):
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        (folder / "run.journal").write_bytes(data[:size])
        kept = [r for r in records if r.data_offset + len(r.data) <= size]
        run = open_run(finish_journal(folder))
        assert run.status == "recovered" and not (folder / "run.journal").exists()
        assert_same_blocks(read_all_blocks(run), blocks[: sum(r.kind is Kind.TAGS for r in kept)])
        rows = run.rows("delays")["index"].size if run.sweeps else 0
        assert rows == sum(r.kind is Kind.ROW for r in kept)


def test_spoilt_journal_is_kept_beside_the_recovered_file(tmp_path: Path) -> None:
    writer, _ = write_scan(tmp_path)
    writer.close()
    journal = writer.directory / "run.journal"
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    finish_journal(writer.directory)
    assert sorted(item.name for item in writer.directory.iterdir()) == ["run.h5", "run.journal.damaged"]


def test_journal_without_header_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.journal").write_bytes(b"")
    with pytest.raises(StoreError, match="no header"):
        open_run(tmp_path)


def fail_writing(monkeypatch: pytest.MonkeyPatch, room: list[int], code: int) -> None:
    """Let `os.write` of the journal accept only `room[0]` bytes, the last write being cut short."""

    def write(fd: int, data: memoryview) -> int:
        if room[0] == 0:
            raise OSError(code, os.strerror(code))
        done = real_write(fd, data[: room[0]])
        room[0] -= done
        return done

    real_write = os.write
    monkeypatch.setattr(disk.os, "write", write)


def test_full_disk_is_reported_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, blocks = write_scan(tmp_path)
    writer.flush()
    room = [1000]
    fail_writing(monkeypatch, room, errno.ENOSPC)
    late = make_block(99, 500, begin_ps=10**13)
    acquisition = writer.begin_acquisition({1: "A"}, "delays", 9, 9.0)
    writer.tags(acquisition, late)
    with pytest.raises(StoreError, match=r"run\.journal: .*No space left.* MB free .*make room"):
        writer.flush()
    with pytest.raises(StoreError, match="No space left"):
        writer.event("unheard", 0.0)
    assert writer.acknowledged < writer.backlog_bytes
    journal = read_journal(writer.directory / "run.journal")
    assert len(list(journal)) == writer.acknowledged and journal.end.reason == ""
    with pytest.raises(StoreError, match="No space left"):
        writer.finish("abort")
    room[0] = 10**9
    run = open_run(writer.finish("abort"))
    assert run.status == "abort"
    assert_same_blocks(read_all_blocks(run), [*blocks, late])


def test_input_output_error_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, blocks = write_scan(tmp_path)
    writer.flush(durable=True)
    writer.event("more", 9.0)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk, "_fdatasync", fail)
    for _ in range(2):
        with pytest.raises(StoreError, match="fdatasync failed"):
            writer.flush(durable=True)
    writer.close()
    assert_same_blocks(read_all_blocks(open_run(writer.directory)), blocks)


def test_finishing_on_a_full_disk_leaves_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, blocks = write_scan(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(finish_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        with pytest.raises(StoreError, match=r"cannot be written .*labctl recover"):
            writer.finish("success")
    assert [item.name for item in writer.directory.iterdir()] == ["run.journal"]
    assert_same_blocks(read_all_blocks(open_run(writer.finish("success"))), blocks)


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        ("tags/channel", "tags chunk 0"),
        ("tags/blocks/end_ps", "tag blocks"),
        ("delays/rate", "column rate of delays"),
    ],
)
def test_a_file_that_differs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, complaint: str
) -> None:
    writer, _ = write_scan(tmp_path)
    write_run = finish_module.write_run

    def write_and_spoil(path: Path, *args: Any) -> None:
        write_run(path, *args)
        with h5py.File(path, "r+") as file:
            file["entry"][dataset][3] += 1

    monkeypatch.setattr(finish_module, "write_run", write_and_spoil)
    with pytest.raises(StoreError, match=f"{complaint}: the new file differs from the journal"):
        writer.finish("success")
    assert [item.name for item in writer.directory.iterdir()] == ["run.journal"]
    writer.close()


def test_backlog_is_bounded(tmp_path: Path) -> None:
    gate, journal = threading.Event(), Journal(tmp_path / "j", backlog_limit=1000)

    def wait_for_gate() -> tuple[dict[str, int], list[bytes]]:
        assert gate.wait(10)
        return {}, []

    journal.append_encoded(Kind.TAGS, wait_for_gate, 2000)
    waiting = threading.Thread(target=journal.append, args=(Kind.EVENT, {}))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive() and journal.appended == 1
    gate.set()
    waiting.join(10)
    journal.flush()
    assert journal.acknowledged == 2 and journal.backlog_bytes == 0
    journal.close()


def test_an_error_while_encoding_is_not_swallowed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")

    def broken() -> tuple[dict[str, int], list[bytes]]:
        raise ValueError("no such dtype")

    journal.append_encoded(Kind.TAGS, broken, 1)
    with pytest.raises(StoreError, match="no such dtype"):
        journal.flush()
    journal.close()
    with pytest.raises(StoreError):
        journal.append(Kind.EVENT, {})
