"""From a journal to the finished run file: build, verify, rename into place, only then drop the journal.

A run file that is there already (the run was finished once and went on) is kept as `run.h5.1` until the new
one is verified and has its name.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import disk
from .chunkfile import tag_files
from .contents import RunContents, fold_journal
from .errors import RunNotFound, StoreError
from .folder import JOURNAL, RUN_FILE, is_locked, locked, run_folders
from .journal import write_failure
from .nexus import write_run
from .nexus_read import load_run, verify_run
from .records import JournalEnd, read_journal, segments
from .repair import finish_repair, repair
from .reserve import RESERVE
from .seal import seal_segment
from .sources import JournalTags

_SPARE_BYTES = 16 << 20


@dataclass(frozen=True)
class Recovered:
    """A run whose process had died and that is complete now; `error` says why it could not be completed."""

    directory: Path
    status: str = ""
    error: str = ""


def recover_orphans(root: Path | str) -> list[Recovered]:
    """Complete every run under `root` whose process died; looks once into each folder.

    A journal without a single record, of a run that died at its birth, is removed with its folder.
    """
    folders = [folder for folder in run_folders(Path(root)) if os.path.exists(folder / JOURNAL)]
    return [found for folder in folders if (found := _recovered(folder)) is not None]


def _recovered(folder: Path) -> Recovered | None:
    """What became of an orphan; None while its writer lives."""
    try:
        if is_locked(folder):
            return None
        if _remove_stillborn(folder):
            return Recovered(folder, "nothing was recorded")
        return Recovered(folder, load_run(finish_journal(folder)).status)
    except (StoreError, OSError) as error:
        return Recovered(folder, error=str(error))


def _remove_stillborn(folder: Path) -> bool:
    with locked(folder):
        reader = read_journal(folder / JOURNAL)
        if any(True for _ in reader) or reader.end.corrupt or (folder / RUN_FILE).exists():
            return False
        disk.remove(folder / RESERVE)
        disk.remove(folder / JOURNAL)
        if not any(folder.iterdir()):
            folder.rmdir()
        return True


def finish_journal(run_dir: Path | str) -> Path:
    """Complete a run whose process died (status "recovered" when it had not ended); returns the run file.

    A finished run is left as it is. Raises RunNotFound, and StoreError when the run is alive, the disk is
    full or the new file does not agree with the journal, which is then kept.
    """
    folder = Path(run_dir)
    journal, finished = folder / JOURNAL, folder / RUN_FILE
    if not journal.exists() and not finished.exists():
        raise RunNotFound(f"{folder}: neither {JOURNAL} nor {RUN_FILE} is here, nothing to finish")
    with locked(folder):
        return complete(folder) if journal.exists() else finished


def complete(folder: Path) -> Path:
    """Like `finish_journal`, for the holder of the folder's lock."""
    journal, finished, unfinished = folder / JOURNAL, folder / RUN_FILE, folder / f"{RUN_FILE}.tmp"
    try:
        remove_leftovers(folder)
        contents, tags, end = sound_journal(folder)
        if len(files := segments(journal)) > 1:
            _seal(files[:-1], tags)
            contents, tags, end = fold_journal(journal)
        _check_room(journal)
        write_run(unfinished, contents, tags, contents.status or "recovered")
        verify_run(unfinished, contents, tags)
        disk.sync_file(unfinished)
    except StoreError:
        disk.remove(unfinished)
        raise
    except (OSError, RuntimeError) as error:
        disk.remove(unfinished)
        raise StoreError(write_failure(unfinished, error)) from error
    _put_in_place(unfinished, finished)
    if end.corrupt:
        keep_spoilt_end(journal)
    remove_journal(journal)
    return finished


def remove_leftovers(folder: Path) -> None:
    """Remove the reserve, and files whose writing was cut short."""
    for path in (folder / RESERVE, *folder.glob("*.tmp")):
        disk.remove(path)


def keep_spoilt_end(journal: Path) -> None:
    """Keep the last segment of a journal, whose end cannot be read, beside the run."""
    last = segments(journal)[-1]
    disk.keep_as(last, last.with_name(f"{last.name}.damaged"))


def sound_journal(folder: Path) -> tuple[RunContents, JournalTags, JournalEnd]:
    """The contents of the journal, which is repaired first when records in it are spoilt."""
    journal = folder / JOURNAL
    finish_repair(journal)
    contents, tags, end = fold_journal(journal)
    if end.damages:
        repair(journal)
        contents, tags, end = fold_journal(journal)
    return contents, tags, end


def _seal(files: list[Path], tags: JournalTags) -> None:
    """Seal what a crash left unsealed, so that the run file does not need all its space again."""
    for number, path in tag_files(tags.path.parent).items():
        if number not in tags.sealed:
            disk.remove(path)  # its sealing was cut short, the segment still has the chunks
    for segment in files:
        seal_segment(segment)


def _put_in_place(unfinished: Path, finished: Path) -> None:
    older = finished.with_name(f"{finished.name}.1")
    if finished.exists():
        disk.keep_as(finished, older)
    disk.rename(unfinished, finished)
    disk.sync_folder(finished.parent)
    disk.remove(older)


def remove_journal(journal: Path) -> None:
    """Remove a journal, its first segment for good before the others: without it they are none."""
    first, *later = segments(journal)
    disk.remove(first)
    disk.sync_folder(journal.parent)
    for segment in later:
        disk.remove(segment)


def _check_room(journal: Path) -> None:
    """HDF5 does not fail well on a full disk, so do not start; the file is no larger than the journal."""
    needed = sum(segment.stat().st_size for segment in segments(journal)) + _SPARE_BYTES
    if shutil.disk_usage(journal.parent).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed")
