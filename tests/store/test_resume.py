"""Runs that go on, after a crash, a recovery, an abort or a failure; new runs that extend old ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.store import RunData, RunWriter, StoreError, finish_journal, open_run
from labctl.store import finish as finish_module
from labctl.store.codec import CHUNK

from .helpers import CHANNELS, assert_same_blocks, make_block, read_all_blocks, write_scan
from .test_contents import check_rich, write_rich


def end_as(writer: RunWriter, how: str) -> Path:
    if how in ("abort", "fail"):
        return writer.finish(how, "by hand").parent
    writer.close()
    return finish_journal(writer.directory).parent if how == "recovered" else writer.directory


def same_but_end(found: RunData, wanted: RunData) -> None:
    """The contents agree in everything that was recorded before the end."""
    assert found.header == wanted.header and found.sweeps == wanted.sweeps
    assert found.events == wanted.events and found.log == wanted.log
    assert found.snapshots == wanted.snapshots and found.twin == wanted.twin
    assert found.audit == wanted.audit and found.memos == wanted.memos
    assert found.contents.acquisitions == wanted.contents.acquisitions
    assert found.contents.blocks == wanted.contents.blocks
    for sweep in wanted.sweeps:
        assert found.units(sweep) == wanted.units(sweep)
        for name, values in wanted.rows(sweep).items():
            np.testing.assert_array_equal(found.rows(sweep)[name], values)


@pytest.mark.parametrize("how", ["crash", "recovered", "abort", "fail"])
def test_a_run_goes_on_with_all_it_had(tmp_path: Path, how: str) -> None:
    writer, blocks = write_scan(tmp_path, tags=CHUNK // 3)
    writer.row("mixed", 0, 0, {"x": 1, "name": "first"}, {}, 0.0)
    writer.row("mixed", 1, 0, {"y": 0.5, "flag": True}, {"y": "V"}, 1.0)
    writer.log("info", "a line", 2.0)
    cut = writer.begin_acquisition(CHANNELS, "delays", 5, 9.0)
    directory = end_as(writer, how)
    before = open_run(directory)
    resumed = RunWriter.resume(directory)
    same_but_end(open_run(directory), before)
    assert open_run(directory).status == "running"
    assert [item.ended for item in open_run(directory).acquisitions] == [True] * 5 + [False]
    more = make_block(9, 2 * CHUNK, 10**14)
    resumed.tags(cut, more)
    resumed.end_acquisition(cut, 77)
    run = open_run(resumed.finish("success"))
    assert run.status == "success" and run.acquisitions[-1].live_time_ps == 77
    assert_same_blocks(read_all_blocks(run), [*blocks, more])
    assert [item.name for item in directory.iterdir()] == ["run.h5"]
    with pytest.raises(StoreError, match="ended with success and cannot go on"):
        RunWriter.resume(directory)


def test_a_rich_run_comes_back_from_its_file(tmp_path: Path) -> None:
    directory = write_rich(tmp_path).finish("abort").parent
    with RunWriter.resume(directory):
        check_rich(open_run(directory))
    check_rich(open_run(finish_journal(directory)))


def test_the_older_file_stays_until_the_new_one_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, blocks = write_scan(tmp_path)
    path = writer.finish("abort")
    older = path.read_bytes()
    resumed = RunWriter.resume(path)
    assert path.read_bytes() == older

    def refuse(*args: Any) -> None:
        raise StoreError("differs from the journal")

    with monkeypatch.context() as patch:
        patch.setattr(finish_module, "verify_run", refuse)
        with pytest.raises(StoreError, match="differs"):
            resumed.finish("success")
    assert path.read_bytes() == older
    run = open_run(resumed.finish("success"))
    assert run.status == "success" and path.read_bytes() != older
    assert_same_blocks(read_all_blocks(run), blocks)


def test_a_crash_after_the_end_record_can_go_on_unless_it_was_a_success(tmp_path: Path) -> None:
    for status, accepted in (("fail", True), ("success", False)):
        writer, _ = write_scan(tmp_path)
        writer._append(finish_kind(), {"status": status, "reason": ""})
        writer.close()
        if not accepted:
            with pytest.raises(StoreError, match="ended with success"):
                RunWriter.resume(writer.directory)
            continue
        with RunWriter.resume(writer.directory) as resumed:
            resumed.event("resumed", 0.0)
        assert open_run(writer.directory).status == "crashed"


def finish_kind() -> Any:
    from labctl.store.records import Kind

    return Kind.END


def test_a_run_that_cannot_be_resumed_is_let_go(tmp_path: Path) -> None:
    path = write_scan(tmp_path)[0].finish("success")
    for _ in range(2):
        with pytest.raises(StoreError, match="ended with success"):
            RunWriter.resume(path.parent)


def test_extending_leaves_the_old_run_alone(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path / "old", tags=CHUNK // 2)
    path = writer.finish("success")
    older = path.read_bytes()
    extended = RunWriter.extend(path, tmp_path / "new")
    assert extended.directory != path.parent and path.read_bytes() == older
    more = make_block(5, 100, 10**15)
    extended.tags(4, more)
    extended.end_acquisition(4, blocks[4].live_time_ps + more.live_time_ps)
    run = open_run(extended.finish("success"))
    old = open_run(path)
    assert run.header["extends"] == old.header["uuid"] != run.header["uuid"]
    assert run.events == old.events
    assert_same_blocks(read_all_blocks(run), [*blocks, more])
    assert run.acquisitions[4].live_time_ps > old.acquisitions[4].live_time_ps


def test_only_a_success_is_extended(tmp_path: Path) -> None:
    path = write_scan(tmp_path)[0].finish("abort")
    with pytest.raises(StoreError, match="only a run that ended with success"):
        RunWriter.extend(path, tmp_path)


def test_a_file_of_schema_1_is_extended(tmp_path: Path) -> None:
    old = Path(__file__).parent / "data" / "version1"
    run = open_run(RunWriter.extend(old, tmp_path).finish("success"))
    assert run.header["schema_version"] == 2
    assert_same_blocks(read_all_blocks(run), read_all_blocks(open_run(old)))
