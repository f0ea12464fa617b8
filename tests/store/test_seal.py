"""Long runs: complete segments of the journal become tag files beside the run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from labctl.store import RunWriter, StoreError, finish_journal, open_run, read_journal
from labctl.store import seal as seal_module
from labctl.store.chunkfile import tag_files
from labctl.store.codec import CHUNK
from labctl.store.records import segments
from labctl.store.seal import seal_segment
from labctl.timetags.block import TagBlock
from tests.nexus import default_plot, nxcheck, run_python

from .helpers import CHANNELS, HEADER, assert_same_blocks, make_block, read_all_blocks, write_scan

LIMIT = 400_000
SIZES = [CHUNK // 2, CHUNK, 10, 3 * CHUNK + 7, CHUNK - 1, 5, CHUNK // 3]


def write_long(root: Path, sizes: list[int] = SIZES, **options: Any) -> tuple[RunWriter, list[TagBlock]]:
    """One acquisition of several segments, and a row behind each block."""
    writer = RunWriter.create(root, "long", HEADER, **{"segment_limit": LIMIT, **options})
    number = writer.begin_acquisition(CHANNELS, "delays", 0, 0.0)
    blocks = []
    for k, size in enumerate(sizes):
        blocks.append(make_block(k, size, k * 10**14))
        writer.tags(number, blocks[-1])
        values = {"delay": k * 1e-12, "rate": 1.0, "rate_error": 0.1}
        writer.row("delays", k, 0, values, {"delay": "s", "rate": "1/s"}, 0.0)
        writer.flush()
    return writer, blocks


def wait_for_seals(writer: RunWriter, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(tag_files(writer.directory)) < count or list(writer.directory.glob("*.tmp")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_long(run: Any, blocks: list[TagBlock]) -> None:
    assert_same_blocks(read_all_blocks(run), blocks)
    assert run.rows("delays")["index"].tolist() == list(range(len(blocks)))


def test_a_long_run_reads_alike_while_it_is_sealed_and_when_it_is_finished(tmp_path: Path) -> None:
    writer, blocks = write_long(tmp_path)
    early = open_run(writer.directory)
    wait_for_seals(writer, 2)
    late = open_run(writer.directory)
    sizes = [path.stat().st_size for path in segments(writer.directory / "run.journal")]
    assert sizes[0] < LIMIT  # its chunks are in the tag file
    check_long(late, blocks)
    path = writer.finish("success")
    names = sorted(item.name for item in path.parent.iterdir())
    assert names[0] == "run.h5" and names[1:3] == ["tags-0001.h5", "tags-0002.h5"]
    assert not [name for name in names if "journal" in name or name.endswith("tmp")]
    for run in (early, late, open_run(path)):
        check_long(run, blocks)


def test_tools_read_a_run_with_tag_files(tmp_path: Path) -> None:
    path = write_long(tmp_path)[0].finish("success")
    for file in (path, *tag_files(path.parent).values()):
        report = nxcheck(file)
        assert "Total number of warnings: 0" in report and "Total number of errors: 0" in report, report
    assert default_plot(path).startswith("rate delay")
    script = "import sys; from nexusformat.nexus import nxload; f = nxload(sys.argv[1]);"
    script += "print(f['entry/tags/parts/part_0001/time_step'].shape[0])"
    assert int(run_python(script, path)) % CHUNK == 0


def test_a_missing_tag_file_is_named(tmp_path: Path) -> None:
    writer, _ = write_long(tmp_path)
    path = writer.finish("success")
    tag_files(path.parent)[1].rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"tags-0001\.h5.*keep the files of a run together"):
        read_all_blocks(open_run(path))


def test_a_crash_leaves_segments_that_recovery_seals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(seal_module, "seal_segment", lambda segment: None)
        writer, blocks = write_long(tmp_path)
        writer.close()
    assert not tag_files(writer.directory) and len(segments(writer.directory / "run.journal")) > 2
    check_long(open_run(writer.directory), blocks)
    path = finish_journal(writer.directory)
    assert len(tag_files(path.parent)) >= 2
    check_long(open_run(path), blocks)


def test_a_tag_file_that_was_not_taken_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: Any) -> None:
        raise StoreError("died between the tag file and the segment")

    with monkeypatch.context() as patch:
        patch.setattr(seal_module, "_write_sealed", die)
        writer, blocks = write_long(tmp_path)
        writer.close()
    assert tag_files(writer.directory)
    path = finish_journal(writer.directory)
    check_long(open_run(path), blocks)
    used = sum(1 for number in tag_files(path.parent))
    assert sorted(tag_files(path.parent)) == list(range(1, used + 1))


def test_sealing_that_fails_costs_only_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(seal_module, "write_tag_file", refuse)
        writer, blocks = write_long(tmp_path)
        writer._sealer.close()
    assert "not sealed" in writer._sealer.failures[0]
    check_long(open_run(writer.finish("success")), blocks)


@pytest.mark.parametrize("how", ["crash", "recovered", "abort"])
def test_a_sealed_run_goes_on_in_its_folder(tmp_path: Path, how: str) -> None:
    writer, blocks = write_long(tmp_path)
    wait_for_seals(writer, 2)
    before = {number: path.stat().st_ino for number, path in tag_files(writer.directory).items()}
    if how == "abort":
        writer.finish("abort")
    else:
        writer.close()
        if how == "recovered":
            finish_journal(writer.directory)
    resumed = RunWriter.resume(writer.directory, segment_limit=LIMIT)
    for k, size in enumerate(SIZES, start=len(blocks)):
        blocks.append(make_block(k, size, k * 10**14))
        resumed.tags(0, blocks[-1])
        resumed.row("delays", k, 0, {"delay": k * 1e-12, "rate": 1.0}, {}, 0.0)
        resumed.flush()
    check_long(open_run(writer.directory), blocks)
    path = resumed.finish("success")
    check_long(open_run(path), blocks)
    after = {number: path.stat().st_ino for number, path in tag_files(path.parent).items()}
    assert before.items() <= after.items() and len(after) > len(before)


def test_extending_copies_what_is_sealed(tmp_path: Path) -> None:
    writer, blocks = write_long(tmp_path / "old")
    path = writer.finish("success")
    extended = RunWriter.extend(path, tmp_path / "new", segment_limit=LIMIT)
    check_long(open_run(extended.finish("success")), blocks)
    check_long(open_run(path), blocks)


def test_sealing_keeps_every_record(tmp_path: Path) -> None:
    writer, _ = write_scan(tmp_path, tags=CHUNK // 2)
    writer.close()
    journal = writer.directory / "run.journal"
    before = [(r.kind, r.seq, r.header.get("tags")) for r in read_journal(journal)]
    seal_segment(journal)
    seal_segment(journal)  # there is nothing more to move
    assert [(r.kind, r.seq, r.header.get("tags")) for r in read_journal(journal)] == before
    assert list(tag_files(writer.directory)) == [1]
