"""A run from its first record to its file, read back, and seen by NeXus tools."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.store import RunNotFound, RunWriter, StoreError, finish_journal, list_orphans, list_runs, open_run
from labctl.store.codec import CHUNK
from tests.nexus import default_plot, nxcheck

from .helpers import CHANNELS, HEADER, assert_same_blocks, make_block, read_all_blocks, write_scan


def test_finished_run_reads_back(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path)
    path = writer.finish("success", "all points taken")
    assert path.name == "run.h5"
    assert [item.name for item in path.parent.iterdir()] == ["run.h5"]
    run = open_run(path.parent)
    assert (run.experiment, run.status, run.reason) == ("delay_scan", "success", "all points taken")
    assert run.parameters == {"dwell_s": 1.0}
    assert run.header["schema_version"] == 2 and run.header["start_time"].endswith("+00:00")
    assert run.twin == {"lifetime_s": 1e-9}
    assert run.snapshots == {"before": {"laser": {"power_w": 1e-3}}}
    assert run.events[0]["kind"] == "started" and run.events[0]["operator"] == "test"
    assert run.sweeps == ["delays"]
    rows = run.rows("delays")
    assert list(rows)[4:] == ["delay", "rate", "rate_error", "reference"]
    np.testing.assert_array_equal(rows["index"], np.arange(5))
    assert rows["reference"].dtype == bool
    assert [item.live_time_ps for item in run.acquisitions] == [block.duration_ps for block in blocks]
    assert run.acquisitions[2].channels == CHANNELS
    assert_same_blocks(read_all_blocks(run), blocks)


def test_a_file_of_schema_1_reads_back() -> None:
    run = open_run(Path(__file__).parent / "data" / "version1")
    assert run.header["schema_version"] == 1 and run.status == "success"
    assert_same_blocks(read_all_blocks(run), [make_block(index, 50) for index in range(3)])
    assert run.memos == {} and run.audit == [] and run.monitors == {}
    assert all(item.ended and not item.discarded and item.part == 0 for item in run.acquisitions)


def test_live_crashed_and_finished_run_read_alike(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path, tags=CHUNK // 2 + 11)
    writer.flush()
    live = open_run(writer.directory)
    assert live.status == "running"
    writer.close()
    crashed = open_run(writer.directory)
    assert crashed.status == "crashed"
    finished = open_run(finish_journal(writer.directory))
    assert finished.status == "recovered"
    for run in (live, crashed, finished):
        assert run.contents.header == live.contents.header
        assert run.events == live.events and run.acquisitions == live.acquisitions
        for name, values in live.rows("delays").items():
            np.testing.assert_array_equal(run.rows("delays")[name], values)
    for run in (live, crashed, finished):
        assert_same_blocks(read_all_blocks(run), blocks)


def test_xarray_has_units(tmp_path: Path) -> None:
    writer, _ = write_scan(tmp_path)
    dataset = open_run(writer.finish("success")).xarray("delays")
    assert dataset["rate"].attrs["units"] == "1/s"
    assert dataset.sizes == {"row": 5} and "attempt" in dataset.coords


def test_values_missing_in_some_rows(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "mixed", {})
    writer.row("a", 0, 0, {"x": 1, "name": "first", "n": 2**62}, {}, 0.0)
    writer.row("a", 0, 1, {"y": np.float32(0.5), "flag": np.True_, "n": -1}, {}, 1.0)
    rows = open_run(writer.finish("abort")).rows("a")
    np.testing.assert_array_equal(rows["x"], [1.0, np.nan])
    np.testing.assert_array_equal(rows["y"], [np.nan, 0.5])
    assert list(rows["name"]) == ["first", ""]
    assert rows["n"].dtype == np.int64 and rows["n"][0] == 2**62


@pytest.mark.parametrize(
    ("sweep", "values"),
    [
        *[("9a", {}), ("tags", {}), ("a/b", {}), ("a", {"time": 1})],
        *[("a", {"x": "\0"}), ("a", {"x": "\ud800"}), ("a", {"x": 2**63}), ("a", {"x": None})],
    ],
)
def test_row_refuses_what_the_file_cannot_hold(tmp_path: Path, sweep: str, values: dict[str, int]) -> None:
    with RunWriter.create(tmp_path, "x", {}) as writer, pytest.raises((ValueError, TypeError)):
        writer.row(sweep, 0, 0, values, {}, 0.0)


def test_default_plot_is_sorted_without_references_and_with_last_attempts(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "scan", HEADER)
    points = [(0, 0, 3.0, 1.0), (1, 0, 1.0, 2.0), (0, 1, 3.0, 5.0), (2, 0, 2.0, 7.0)]
    for index, attempt, delay, rate in points:
        values = {"delay": delay, "rate": rate, "rate_error": 0.1, "reference": index == 2}
        writer.row("delays", index, attempt, values, {"delay": "s"}, 0.0)
    with h5py.File(writer.finish("success")) as file:
        assert file["entry"].attrs["default"] == "plot"
        assert list(file["entry/plot/delay"]) == [1.0, 3.0]
        assert list(file["entry/plot/rate"]) == [2.0, 5.0]
        assert list(file["entry/delays/delay"]) == [3.0, 1.0, 3.0, 2.0]


def test_nexus_tools_accept_the_file(tmp_path: Path) -> None:
    writer, _ = write_scan(tmp_path)
    writer.row("calibration", 0, 0, {"power": 1e-3}, {"power": "W"}, 9.0)
    writer.row("remarks", 0, 0, {"text": "no number here"}, {}, 9.0)
    path = writer.finish("success")
    report = nxcheck(path)
    assert "Total number of warnings: 0" in report and "Total number of errors: 0" in report, report
    assert default_plot(path) == "rate delay 1/s rate_errors rate (1/s)"


def test_empty_run_and_its_file(tmp_path: Path) -> None:
    run = open_run(RunWriter.create(tmp_path, "nothing", {}).finish("fail", "interlock\0"))
    assert (run.status, run.sweeps, run.acquisitions, run.events, run.twin) == ("fail", [], [], [], None)


def test_folders_are_unique_in_parallel(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        writers = list(pool.map(lambda _: RunWriter.create(tmp_path, "scan", {}), range(24)))
    assert len({writer.directory for writer in writers}) == 24
    for writer in writers:
        writer.close()
    assert len(list_runs(tmp_path)) == 24


def test_list_runs_is_newest_first(tmp_path: Path) -> None:
    for name in ("2026-01-02/090000_g2_00000a", "2026-01-02/100000_scan_00000b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "2025-12-31/235959_g2_x_00000c").mkdir(parents=True)
    (tmp_path / "2026-01-02" / "notes").mkdir()
    runs = list_runs(tmp_path)
    assert [run.experiment for run in runs] == ["scan", "g2", "g2_x"]
    assert runs[0].started.hour == 10 and not runs[0].finished


def test_run_not_found_names_the_nearest(tmp_path: Path) -> None:
    directory = write_scan(tmp_path)[0].finish("success").parent
    with pytest.raises(RunNotFound, match=f"did you mean .*{directory.name}"):
        open_run(directory.with_name(directory.name[:-1]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunNotFound, match="no run is under"):
        open_run(tmp_path / "empty" / "x")
    with pytest.raises(StoreError, match="the run has: delays"):
        open_run(directory).rows("delay")
    with pytest.raises(StoreError, match="no acquisition 99"):
        open_run(directory).tag_blocks(99)


def test_a_run_has_one_writer(tmp_path: Path) -> None:
    writer, _ = write_scan(tmp_path)
    with pytest.raises(StoreError, match="still being written"):
        finish_journal(writer.directory)
    path = writer.finish("success")
    assert finish_journal(path.parent) == path
    with pytest.raises(StoreError, match="the run is finished"):
        writer.event("late", 0.0)


def test_a_crashed_run_goes_on(tmp_path: Path) -> None:
    writer, blocks = write_scan(tmp_path, tags=CHUNK // 3)
    acquisition = writer.begin_acquisition(CHANNELS, "delays", 5, 9.0)
    writer.close()
    with (writer.directory / "run.journal").open("ab") as journal:
        journal.write(b"LJ1\nhalf a rec")
    resumed = RunWriter.resume(writer.directory)
    more = [make_block(9, CHUNK, 10**13), make_block(10, 7, 10**14)]
    resumed.tags(acquisition, more[0])
    resumed.tags(resumed.begin_acquisition(CHANNELS, "delays", 6, 10.0), more[1])
    with pytest.raises(StoreError, match="still being written"):
        RunWriter.resume(writer.directory)
    run = open_run(resumed.finish("success"))
    assert run.status == "success" and len(run.acquisitions) == 7
    assert_same_blocks(read_all_blocks(run), [*blocks, *more])
    with pytest.raises(StoreError, match="cannot go on"):
        RunWriter.resume(writer.directory)


def test_orphans_are_found(tmp_path: Path) -> None:
    alive, _ = write_scan(tmp_path)
    dead, _ = write_scan(tmp_path)
    write_scan(tmp_path)[0].finish("success")
    dead.close()
    assert [info.path for info in list_orphans(tmp_path)] == [dead.directory]
    alive.close()


def test_misuse_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give sweep, axis and signal"):
        RunWriter.create(tmp_path, "scan", {"default_plot": {"axis": "x"}})
    with pytest.raises(ValueError, match="use letters"):
        RunWriter.create(tmp_path, "../scan", {})
    with RunWriter.create(tmp_path, "scan", {}) as writer:
        with pytest.raises(ValueError, match="was not begun"):
            writer.tags(0, make_block(0, 3))
        with pytest.raises(ValueError, match="one of success, abort, fail"):
            writer.finish("fine")


def test_interleaved_acquisitions_and_large_blocks(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "two_taggers", {})
    first = writer.begin_acquisition(CHANNELS, "a", 0, 0.0)
    second = writer.begin_acquisition(CHANNELS, "a", 1, 0.0, attempt=2)
    sizes = [10, 3 * CHUNK + 5, CHUNK - 15, 0, 7, CHUNK]
    blocks = [make_block(seed, size) for seed, size in enumerate(sizes)]
    for number, block in enumerate(blocks):
        writer.tags((first, second)[number % 2], block)
    run = open_run(writer.finish("success"))
    assert run.acquisitions[1].attempt == 2
    assert_same_blocks(list(run.tag_blocks(first)), blocks[0::2])
    assert_same_blocks(list(run.tag_blocks(run.acquisitions[1])), blocks[1::2])
