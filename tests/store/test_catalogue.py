"""The catalogue finds runs by what they are, and its index can always be made again."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from labctl.quantities import QuantityError
from labctl.store import Catalogue, Query, RunWriter, StoreError, add_note, change_tags, index
from labctl.store.catalogue import parse_condition
from labctl.store.index import INDEX
from labctl.store.summary import RunSummary

from .runs_to_find import write_run

UNITS = {"dwell": "s", "power": "W"}


def names(root: Path, **query: Any) -> list[str]:
    """Titles of the runs that are found, in order."""
    query["where"] = tuple(map(parse_condition, query.get("where", ())))
    with Catalogue(root) as catalogue:
        found = list(catalogue.search(Query(**query)))
        assert query.get("limit") or catalogue.count(Query(**query)) == len(found)
    return [run.title for run in found]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs, a to e, from the oldest to the newest; do not change it."""
    root = tmp_path_factory.mktemp("shelf")
    one = {"parameters": {"dwell": 10.0, "power": 1e-3, "basis": "X", "n": 3}, "parameter_units": UNITS}
    two = {"parameters": {"dwell": 30.0, "power": math.nan, "basis": "Z", "n": 4}, "parameter_units": UNITS}
    stage = {"parameters": {"dwell": 10.0}, "parameter_units": {"dwell": "m"}}
    bare = {"parameters": {"dwell": 60.0, "shuffle": True}}
    write_run(root, started="2026-01-31T23:59", title="a", **one, sample="CdSe 12", tags=["cold"])
    write_run(root, started="2026-02-01T00:00", title="b", **two, sample="CdSe 13", note="Größe stimmt")
    write_run(root, "scan", started="2026-02-01T12:00", title="c", **stage, operator="me", status="abort")
    write_run(root, "scan", started="2026-02-02T12:00", title="d", **bare, tags=["cold", "good"])
    run = write_run(root, "scan", started="2026-02-03T12:00", title="e", tags=["bad"], status="fail")
    change_tags(run, ["cold"], ["bad"])
    add_note(run, "drifted away")
    return root


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "edcba"),
        ({"limit": 2}, "ed"),
        ({"experiment": "hbt"}, "ba"),
        ({"sample": "CdSe 12"}, "a"),
        ({"status": "abort"}, "c"),
        ({"tags": ("cold",)}, "eda"),
        ({"tags": ("cold", "good")}, "d"),
        ({"tags": ("bad",)}, ""),
        ({"text": ("GRÖSSE",)}, "b"),
        ({"text": ("away", "drifted")}, "e"),
        ({"text": ("cdse",)}, "ba"),
        ({"text": ("reason",)}, "ec"),
        ({"text": ("%",)}, ""),
        ({"where": ["dwell>10 s"]}, "db"),
        ({"where": ["dwell >= 10 s"]}, "dba"),
        ({"where": ["dwell<1 min"]}, "ba"),
        ({"where": ["dwell<=1 min", "dwell!=30 s"]}, "da"),
        ({"where": ["dwell = 10"]}, "ca"),
        ({"where": ["dwell=10 m"]}, "c"),
        ({"where": ["power=1 mW"]}, "a"),
        ({"where": ["power<1 W"]}, "a"),
        ({"where": ["basis=X"]}, "a"),
        ({"where": ["basis!=X"]}, "b"),
        ({"where": ["n==4"]}, "b"),
        ({"where": ["shuffle=true"]}, "d"),
        ({"where": ["shuffle=false"]}, ""),
        ({"where": ["dwell>1 s"], "experiment": "hbt", "text": ("stimmt",)}, "b"),
    ],
)
def test_what_is_found(shelf: Path, query: dict[str, Any], found: str) -> None:
    assert "".join(names(shelf, **query)) == found


def test_dates_are_half_open(shelf: Path) -> None:
    midnight = datetime(2026, 2, 1).timestamp()
    assert names(shelf, since=midnight) == ["e", "d", "c", "b"]
    assert names(shelf, until=midnight) == ["a"]
    assert names(shelf, since=midnight, until=midnight + 1) == ["b"]


def test_all_that_is_known_of_a_run(shelf: Path) -> None:
    with Catalogue(shelf) as catalogue:
        newest, *_, oldest = catalogue.search()
    assert (newest.status, newest.reason, newest.tags, newest.notes) == (
        *("fail", "a reason", ("cold",), ("drifted away",)),
    )
    assert (oldest.sample, oldest.units, oldest.notes) == ("CdSe 12", UNITS, ())
    assert oldest.parameters == {"dwell": 10.0, "power": 1e-3, "basis": "X", "n": 3}
    assert oldest.started == datetime(2026, 1, 31, 23, 59).timestamp()
    files = [file for file in (shelf / oldest.name).iterdir() if file.is_file()]
    assert oldest.size_bytes == sum(file.stat().st_size for file in files) > 1000


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("dwell", "write a parameter, one of"),
        ("dwell>", "write a parameter, one of"),
        ("dwell>a;b", "'a;b' is not a quantity"),
        ("dwel>1", "has a parameter 'dwel'; did you mean 'dwell'"),
        ("dwell>10 V", "dwell: '10 V' is a voltage"),
        ('x" > 1', "write a parameter, one of"),
    ],
)
def test_conditions_that_cannot_be(shelf: Path, condition: str, problem: str) -> None:
    with pytest.raises((StoreError, QuantityError), match=problem):
        names(shelf, where=[condition])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs whose folders are opened."""
    seen: list[str] = []
    summarise = index.summarise

    def spy(root: Path, name: str) -> RunSummary:
        seen.append(name)
        return summarise(root, name)

    monkeypatch.setattr(index, "summarise", spy)
    return seen


def test_only_changed_folders_are_opened(tmp_path: Path, opened: list[str]) -> None:
    runs = [write_run(tmp_path, title=title) for title in "abc"]
    assert sorted(names(tmp_path)) == ["a", "b", "c"]
    assert sorted(opened) == sorted(str(run.relative_to(tmp_path)) for run in runs)
    opened.clear()
    assert len(names(tmp_path)) == 3 and opened == []
    change_tags(runs[1], ["good"])
    assert names(tmp_path, tags=("good",)) == ["b"]
    assert opened == [str(runs[1].relative_to(tmp_path))]
    shutil.rmtree(runs[0])
    opened.clear()
    assert sorted(names(tmp_path)) == ["b", "c"] and opened == []
    write_run(tmp_path, title="d")
    assert len(names(tmp_path)) == 3 and len(opened) == 1


def test_a_run_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path, "hbt", {"title": "a", "sample": "s"})
    for status in ("running", "crashed"):
        with Catalogue(tmp_path) as catalogue:
            (run,) = catalogue.search()
        assert (run.status, run.title, run.sample, run.duration_s) == (status, "a", "s", None)
        writer.close()
    writer = RunWriter.resume(tmp_path / run.name)
    writer.finish("abort", "why")
    with Catalogue(tmp_path) as catalogue:
        (run,) = catalogue.search()
    assert (run.status, run.reason) == ("abort", "why")
    assert run.duration_s is not None and run.duration_s >= 0


@pytest.mark.parametrize("spoil", ["run.h5", "labels.json"])
def test_a_run_that_cannot_be_read_is_listed(tmp_path: Path, spoil: str) -> None:
    folder = write_run(tmp_path, "my_scan", title="a")
    (folder / spoil).write_bytes(b"nonsense")
    with Catalogue(tmp_path) as catalogue:
        (run,) = catalogue.search(Query(experiment="my_scan"))
    if spoil == "run.h5":
        assert run.status == "unreadable" and run.reason
        assert datetime.fromtimestamp(run.started).strftime("%Y-%m-%d/%H%M%S") == run.name[:17]
    else:
        assert run.status == "success" and "mend it or remove it" in run.notes[0]


def test_what_is_no_run_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "2026-01-01" / "010101_hbt_000000").mkdir(parents=True)
    (tmp_path / "2026-01-01" / "file").touch()
    (tmp_path / "calibrations" / "sim_dot").mkdir(parents=True)
    assert names(tmp_path) == []
    assert names(tmp_path / "nowhere") == []


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE runs (name)")
    other.close()


def of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as older:
        older.execute("PRAGMA user_version = 0")
    older.close()


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no index at all" * 100),
        lambda path: (path.unlink(), foreign(path)),
        of_another_version,
        torn,
        overwritten,
    ],
)
def test_a_spoilt_index_is_made_again(
    tmp_path: Path, spoil: Callable[[Path], None], opened: list[str]
) -> None:
    for number in range(4):
        write_run(tmp_path, title="x" * 8000, parameters={"n": number})
    assert len(names(tmp_path)) == 4
    spoil(tmp_path / INDEX)
    opened.clear()
    assert len(names(tmp_path, where=["n>=0"])) == 4
    assert len(opened) == 4
    assert len(names(tmp_path)) == 4 and len(opened) == 4


def test_a_root_where_no_index_can_be(tmp_path: Path, opened: list[str]) -> None:
    write_run(tmp_path, title="a")
    (tmp_path / INDEX).mkdir()
    for count in (1, 2):
        assert names(tmp_path) == ["a"]
        assert len(opened) == count


def test_an_index_that_can_only_be_read_is_used(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in "ab":
        write_run(tmp_path, title=title)
    assert len(names(tmp_path)) == 2
    write_run(tmp_path, title="c")
    opened.clear()
    monkeypatch.setattr(index, "_PATIENCE_S", 0.0)
    with sqlite3.connect(tmp_path / INDEX) as other:
        other.execute("BEGIN IMMEDIATE")  # others may read, nobody else may write
        assert len(names(tmp_path)) == 3
    other.close()
    assert len(opened) == 1


def test_several_at_once(tmp_path: Path) -> None:
    for number in range(12):
        write_run(tmp_path, title=str(number))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: names(tmp_path), range(8)):
            assert sorted(map(int, found)) == list(range(12))


def test_an_interrupted_building_goes_on(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in "abc":
        write_run(tmp_path, title=title)
    monkeypatch.setattr(index, "_BATCH", 1)
    told: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Catalogue(tmp_path, interrupt)
    assert told == [(1, 3), (2, 3)]
    assert len(names(tmp_path)) == 3 and len(opened) == 3
