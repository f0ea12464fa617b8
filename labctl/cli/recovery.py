"""Runs whose process died are completed by whatever command meets them."""

from __future__ import annotations

import sys
from pathlib import Path

from labctl.store.errors import StoreError
from labctl.store.folder import JOURNAL, is_locked
from labctl.store.index import UNFINISHED, scan


def recover_dead_runs(root: Path) -> None:
    """Complete every run under `root` whose process died; a line on standard error for each."""
    for name, stamp in scan(root).items():
        if stamp == UNFINISHED:
            recover_dead_run(root / name)


def recover_dead_run(folder: Path) -> None:
    """Complete a run if its process died; one that lives, and one that is finished, are left alone."""
    if not (folder / JOURNAL).exists() or is_locked(folder):
        return
    from labctl.store import finish_journal

    try:
        file = finish_journal(folder)
    except StoreError as error:
        if (folder / JOURNAL).exists() and not is_locked(folder):  # else another command is at it, or was
            _say(f"a run whose process died is left as it is: {error}")
    else:
        _say(
            f"the process of {folder} had died: {file.name} is completed from its journal; "
            "`labctl resume` goes on with it"
        )


def _say(text: str) -> None:
    sys.stderr.write(f"labctl: {' '.join(text.split())}\n")
