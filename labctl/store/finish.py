"""From a journal to the finished run file: build, verify, rename into place, only then drop the journal."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from .contents import RunContents, fold_journal
from .errors import RunNotFound, StoreError
from .folder import JOURNAL, RUN_FILE, locked, sync_folder
from .journal import JournalEnd, write_failure
from .nexus import verify_run, write_run
from .tags import JournalTags

_SPARE_BYTES = 16 << 20


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
    contents, tags, end = fold_journal(journal)
    try:
        _check_room(journal)
        write_run(unfinished, contents, tags.encoded(), contents.status or "recovered")
        verify_run(unfinished, contents)
        _sync_file(unfinished)
        os.replace(unfinished, finished)
    except StoreError:
        unfinished.unlink(missing_ok=True)
        raise
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(write_failure(unfinished, error)) from error
    sync_folder(folder)
    if end.corrupt:
        journal.rename(folder / f"{JOURNAL}.damaged")
    else:
        journal.unlink()
    sync_folder(folder)
    return finished


def fold_resumable(folder: Path) -> tuple[RunContents, JournalTags, JournalEnd]:
    """The contents of a run that can go on. Raises StoreError when it has ended or is damaged."""
    if (folder / RUN_FILE).exists():
        raise StoreError(f"{folder}: the run is finished and cannot go on; start a new one")
    contents, tags, end = fold_journal(folder / JOURNAL)
    if contents.status or end.corrupt:
        state = f"has ended ({contents.status})" if contents.status else f"is damaged ({end.reason})"
        raise StoreError(f"{folder}: the run {state} and cannot go on; complete it by `labctl recover`")
    return contents, tags, end


def _check_room(journal: Path) -> None:
    """HDF5 does not fail well on a full disk, so do not start; the file is no larger than the journal."""
    needed = journal.stat().st_size + _SPARE_BYTES
    if shutil.disk_usage(journal.parent).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed")


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
