"""Runs whose process died are completed by whatever command meets them."""

from __future__ import annotations

import sys
from pathlib import Path

from labctl.store.errors import StoreError
from labctl.store.folder import JOURNAL, is_locked
from labctl.store.index import UNFINISHED, scan


def recover_dead_runs(root: Path) -> None:
    """Complete every run under `root` whose process died; a line on standard error for each."""
    if not any(stamp == UNFINISHED and not is_locked(root / name) for name, stamp in scan(root).items()):
        return
    from labctl.store import recover_orphans

    for run in recover_orphans(root):
        _tell(run.directory, run.error)


def recover_dead_run(folder: Path) -> None:
    """Complete a run if its process died; one that lives, and one that is finished, are left alone."""
    if not (folder / JOURNAL).exists() or is_locked(folder):
        return
    from labctl.store import finish_journal

    try:
        finish_journal(folder)
    except StoreError as error:
        _tell(folder, str(error))
    else:
        _tell(folder, "")


def _tell(folder: Path, error: str) -> None:
    if not folder.exists():
        _say(f"the process of {folder} had died before it recorded anything: the folder is removed")
    elif not error:
        _say(
            f"the process of {folder} had died: its file is completed from its journal; "
            "`labctl resume` goes on with it"
        )
    elif not is_locked(folder):  # else another command is at it
        _say(f"a run whose process died is left as it is: {error}")


def _say(text: str) -> None:
    sys.stderr.write(f"labctl: {' '.join(text.split())}\n")
