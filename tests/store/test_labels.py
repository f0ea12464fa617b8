"""Tags and notes beside a run: added, removed, never lost when several write at once."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labctl.store import RunNotFound, StoreError, add_note, change_tags, labels, read_labels
from labctl.store.labels import Labels

from .runs_to_find import write_run


def test_tags_come_and_go(tmp_path: Path) -> None:
    run = write_run(tmp_path, tags=["cold", "new"])
    before = (run / "run.h5").read_bytes()
    assert read_labels(run) == Labels()
    assert change_tags(run, ["good", "star"], ["new"]).tags(["cold", "new"]) == ["cold", "good", "star"]
    assert change_tags(run / "run.h5", ["new"], ["good"]).tags(["cold", "new"]) == ["cold", "new", "star"]
    assert read_labels(run).tags(["cold"]) == ["cold", "star", "new"]
    assert (run / "run.h5").read_bytes() == before
    assert sorted(file.name for file in run.iterdir()) == ["labels.json", "run.h5"]


def test_notes_are_kept_in_order(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    add_note(run, "drifted, µm")
    change_tags(run, ["bad"])
    noted = add_note(run, "second\nline")
    assert [note.text for note in noted.notes] == ["drifted, µm", "second\nline"]
    assert all(note.time[10] == "T" for note in noted.notes)
    assert read_labels(run) == noted and noted.added == ("bad",)


@pytest.mark.parametrize("tag", ["", "two words", "+x", "-x", "a\nb"])
def test_unusable_tags(tmp_path: Path, tag: str) -> None:
    run = write_run(tmp_path)
    with pytest.raises(StoreError, match="a tag is one word"):
        change_tags(run, ["good", tag])
    assert read_labels(run) == Labels()


def test_no_run_gets_no_labels(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound):
        add_note(tmp_path, "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"added": 1, "removed": [], "notes": []}', "\0"])
def test_a_broken_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path)
    (run / "labels.json").write_text(text)
    for change in (lambda: read_labels(run), lambda: change_tags(run, ["good"]), lambda: add_note(run, "x")):
        with pytest.raises(StoreError, match=r"labels\.json: not a file of labels .*; mend it or remove it"):
            change()
    assert (run / "labels.json").read_text() == text
    assert not (run / "labels.json.new").exists()


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: add_note(run, str(number)), range(24)))
    assert sorted(int(note.text) for note in read_labels(run).notes) == list(range(24))


def test_what_a_dead_program_left_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path)
    left = run / "labels.json.new"
    left.write_text("half a f")
    monkeypatch.setattr(labels, "_PATIENCE_S", 0.0)
    with pytest.raises(StoreError, match="another program is writing"):
        add_note(run, "x")
    monkeypatch.setattr(labels, "_PATIENCE_S", 60.0)
    os.utime(left, (1e9, 1e9))
    add_note(run, "x")
    assert [note["text"] for note in json.loads((run / "labels.json").read_text())["notes"]] == ["x"]
