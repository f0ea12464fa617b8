"""What people say about a run after it was taken: tags and notes, in `labels.json` beside the run file.

The run file itself is never changed. Tags are kept as those added to and those removed from the ones that
were recorded with the run. A change is written into a new file, which only one program can have, and
that file replaces the old one when it is on the disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TextIO

from .errors import StoreError
from .folder import find_run, sync_folder

LABELS = "labels.json"
_PATIENCE_S = 5.0
_STALE_S = 10.0  # a new file as old as that is left over from a program that died


@dataclass(frozen=True)
class Note:
    """A remark, and when it was made (ISO 8601)."""

    time: str
    text: str


@dataclass(frozen=True)
class Labels:
    """Tags added to and removed from those of the run, and later notes."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    def tags(self, recorded: Iterable[str]) -> list[str]:
        """The tags of a run that was recorded with the tags `recorded`."""
        return [tag for tag in dict.fromkeys((*recorded, *self.added)) if tag not in self.removed]

    def changed(self, add: Iterable[str], remove: Iterable[str]) -> Labels:
        """With more and with fewer tags."""
        add, remove = tuple(add), tuple(remove)
        added = dict.fromkeys(tag for tag in (*self.added, *add) if tag not in remove)
        removed = dict.fromkeys(tag for tag in (*self.removed, *remove) if tag not in add)
        return replace(self, added=tuple(added), removed=tuple(removed))


def read_labels(folder: Path) -> Labels:
    """The labels of a run, empty ones where nobody has said anything. Raises StoreError for a broken file."""
    file = folder / LABELS
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        notes = tuple(Note(str(note["time"]), str(note["text"])) for note in found["notes"])
        return Labels(tuple(map(str, found["added"])), tuple(map(str, found["removed"])), notes)
    except FileNotFoundError:
        return Labels()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StoreError(f"{file}: not a file of labels ({reason}); mend it or remove it") from error


def change_tags(run: Path | str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Labels:
    """Give a run more tags and take some away; returns its new labels.

    Raises RunNotFound; StoreError for an unusable tag, a broken file, or one that cannot be written.
    """
    from labctl.settings import check_tag  # here, so that who only reads labels does not wait for pydantic

    add, remove = tuple(add), tuple(remove)
    for tag in add:
        try:
            check_tag(tag)
        except ValueError as error:
            raise StoreError(str(error)) from error
    return _change(find_run(Path(run)), lambda labels: labels.changed(add, remove))


def add_note(run: Path | str, text: str) -> Labels:
    """Add a remark to a run that is over; returns its new labels. Raises like `change_tags`."""
    note = Note(datetime.now().astimezone().isoformat(timespec="seconds"), text)
    return _change(find_run(Path(run)), lambda labels: replace(labels, notes=(*labels.notes, note)))


def _change(folder: Path, change: Callable[[Labels], Labels]) -> Labels:
    try:
        with _new_file(folder) as file:
            labels = change(read_labels(folder))
            json.dump(asdict(labels), file, indent=1, ensure_ascii=False)
    except OSError as error:
        raise StoreError(f"{folder / LABELS}: cannot be written ({error.strerror})") from error
    sync_folder(folder)
    return labels


@contextmanager
def _new_file(folder: Path) -> Iterator[TextIO]:
    """The file that replaces the old one on leaving without an exception; only one program has it."""
    path = folder / f"{LABELS}.new"
    with os.fdopen(_claim(path), "w", encoding="utf-8") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            path.unlink()
            raise
    os.replace(path, folder / LABELS)


def _claim(path: Path) -> int:
    give_up_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError as error:
            if time.monotonic() > give_up_s:
                raise StoreError(f"{path}: another program is writing it; try again") from error
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
        time.sleep(0.005)
