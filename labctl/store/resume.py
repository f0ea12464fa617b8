"""Making a run that ended before its time ready to be written again."""

from __future__ import annotations

from pathlib import Path

from . import disk
from .contents import RunContents
from .errors import StoreError
from .finish import keep_spoilt_end, remove_leftovers, sound_journal
from .folder import JOURNAL, RUN_FILE
from .nexus_read import load_run
from .records import JournalEnd, segments
from .sources import JournalTags
from .unfold import unfold


def reopen(folder: Path) -> tuple[RunContents, JournalTags, JournalEnd]:
    """What a crashed, recovered, aborted or failed run has; afterwards its journal is there to go on with.

    For the holder of the folder's lock. Raises StoreError for a successful run, or one that cannot be read.
    """
    journal = folder / JOURNAL
    remove_leftovers(folder)
    if not journal.exists():
        _unfold_here(folder / RUN_FILE, journal)
    contents, tags, end = sound_journal(folder)
    _refuse_success(folder, contents)
    if end.corrupt:
        keep_spoilt_end(journal)
    return contents, tags, end


def _unfold_here(run_file: Path, journal: Path) -> None:
    contents = load_run(run_file)
    _refuse_success(run_file.parent, contents)
    for stray in segments(journal)[1:]:  # of a journal that was finished and not wholly removed
        disk.remove(stray)
    unfinished = journal.with_name(f"{journal.name}.tmp")
    unfold(run_file, unfinished, contents.header, keep_sealed=True)
    disk.rename(unfinished, journal)
    disk.sync_folder(journal.parent)


def _refuse_success(folder: Path, contents: RunContents) -> None:
    if contents.status == "success":
        raise StoreError(
            f"{folder}: the run ended with success and cannot go on; add to it with `labctl extend`, "
            "or start a new one"
        )
