"""The index of the catalogue: what is known of every run under a root, in `.catalogue.sqlite` there.

It is made from the folders of the runs and never the only copy of anything, so it is simply made again when
it is damaged or not ours, and kept in memory when the root cannot be written. Only folders that have
changed since the last time are opened: a finished run is stamped with time, size and inode of its files.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from .folder import JOURNAL, RUN_FILE
from .labels import LABELS
from .summary import RunSummary, summarise

INDEX = ".catalogue.sqlite"
UNFINISHED = ""
Tell = Callable[[int, int], None]
_APPLICATION, _VERSION = 0x6C616263, 1
_BATCH = 200
_PATIENCE_S = 5.0
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_COLUMNS = tuple(field.name for field in fields(RunSummary))
_AS_JSON = ("tags", "parameters", "units", "notes")
_TABLE = f"CREATE TABLE runs ({', '.join(_COLUMNS)}, stamp, words, PRIMARY KEY (name)) WITHOUT ROWID"


def scan(root: Path) -> dict[str, str]:
    """The stamp of every run under `root` by its name; UNFINISHED where there is a journal."""
    found = {}
    for day in _folders(root):
        for run in _folders(day.path) if _DAY.fullmatch(day.name) else ():
            if (stamp := _stamp(run.path)) is not None:
                found[f"{day.name}/{run.name}"] = stamp
    return found


def open_index(root: Path, tell: Tell) -> sqlite3.Connection:
    """The index of the runs under `root` as they are now.

    tell: called with how many of the changed runs have been read, and how many there are.
    """
    path = root / INDEX
    try:
        return _refreshed(_connect(path), root, tell)
    except sqlite3.OperationalError:  # locked for long, read-only, or the disk is full
        return _refreshed(_copy_in_memory(path), root, tell)
    except sqlite3.DatabaseError:  # damaged, or not ours
        with suppress(OSError, sqlite3.DatabaseError):
            path.unlink()
            return _refreshed(_connect(path), root, tell)
        return _refreshed(_connect(":memory:"), root, tell)


def summary_of(row: sqlite3.Row) -> RunSummary:
    """A row of the table `runs`."""
    values = {name: row[name] for name in _COLUMNS}
    values |= {name: json.loads(values[name]) for name in _AS_JSON}
    return RunSummary(**values | {"tags": tuple(values["tags"]), "notes": tuple(values["notes"])})


def _folders(path: Path | str) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(path) as entries:
        yield from (entry for entry in entries if entry.is_dir())


def _stamp(folder: str) -> str | None:
    """What changes whenever a finished run changes; None when there is no run."""
    if os.path.exists(f"{folder}/{JOURNAL}"):
        return UNFINISHED
    run = _file_stamp(f"{folder}/{RUN_FILE}")
    return run and f"{run} {_file_stamp(f'{folder}/{LABELS}')}"


def _file_stamp(path: str) -> str | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{found.st_mtime_ns}:{found.st_size}:{found.st_ino}"


def _connect(path: Path | str) -> sqlite3.Connection:
    """Open or make an index. Raises DatabaseError for a file that is damaged or not ours."""
    index = sqlite3.connect(path, timeout=_PATIENCE_S)
    try:
        index.row_factory = sqlite3.Row
        # nothing in it is worth a journal file beside it, nor waiting for the disk
        index.execute("PRAGMA journal_mode = MEMORY")
        index.execute("PRAGMA synchronous = OFF")
        _prepare(index)
        _check(index)
    except sqlite3.Error:
        index.close()
        raise
    return index


def _prepare(index: sqlite3.Connection) -> None:
    """Make the table in a new file."""
    with index:
        index.execute("BEGIN IMMEDIATE")
        if not index.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            index.execute(_TABLE)
            index.execute(f"PRAGMA application_id = {_APPLICATION}")
            index.execute(f"PRAGMA user_version = {_VERSION}")


def _check(index: sqlite3.Connection) -> None:
    marks = [index.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    sound = index.execute("PRAGMA quick_check(1)").fetchone()[0]
    if marks != [_APPLICATION, _VERSION] or sound != "ok":
        raise sqlite3.DatabaseError("not an index of this version, or a damaged one")


def _copy_in_memory(path: Path) -> sqlite3.Connection:
    """What can be read of an index that cannot be written."""
    memory = _connect(":memory:")
    only_read = f"{path.absolute().as_uri()}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(only_read, uri=True)) as stored:
        _check(stored)
        _insert(memory, stored.execute("SELECT * FROM runs").fetchall())
    return memory


def _refreshed(index: sqlite3.Connection, root: Path, tell: Tell) -> sqlite3.Connection:
    try:
        _refresh(index, root, tell)
    except sqlite3.Error:
        index.close()
        raise
    return index


def _refresh(index: sqlite3.Connection, root: Path, tell: Tell) -> None:
    known = dict(map(tuple, index.execute("SELECT name, stamp FROM runs")))
    found = scan(root)
    changed = [name for name, stamp in found.items() if stamp == UNFINISHED or known.get(name) != stamp]
    with index:
        index.executemany("DELETE FROM runs WHERE name = ?", [(name,) for name in known.keys() - found])
    for first in range(0, len(changed), _BATCH):
        batch = changed[first : first + _BATCH]
        rows = [_row(summarise(root, name), found[name]) for name in batch]
        _insert(index, rows)
        tell(first + len(batch), len(changed))


def _insert(index: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> None:
    places = ", ".join("?" * (len(_COLUMNS) + 2))
    with index:
        index.executemany(f"INSERT OR REPLACE INTO runs VALUES ({places})", rows)


def _row(run: RunSummary, stamp: str) -> list[Any]:
    values = [_json(getattr(run, name)) if name in _AS_JSON else getattr(run, name) for name in _COLUMNS]
    said = (run.name, run.title, run.reason, run.sample, run.position, run.operator, *run.tags, *run.notes)
    return [*values, stamp, "\n".join(said).casefold()]


def _json(value: Any) -> str:
    """JSON that SQLite understands too, with NaN and infinities as text."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=str))
