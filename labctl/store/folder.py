"""The folder of a run, `root/YYYY-MM-DD/HHMMSS_<experiment>_<6 hex>/` in local time; it has one writer."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .disk import sync_folder
from .errors import RunNotFound, StoreError

JOURNAL = "run.journal"
RUN_FILE = "run.h5"
_RUN = re.compile(r"(\d{6})_(.+)_[0-9a-f]{6}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class RunInfo:
    """What the name of a run's folder tells; `finished` is True when its run file is complete."""

    path: Path
    experiment: str
    started: datetime
    finished: bool


def make_folder(root: Path, experiment: str, now: datetime) -> Path:
    """A new folder for a run; an existing one is never taken.

    Raises ValueError for an unusable name, StoreError when no folder can be made there.
    """
    if not _NAME.fullmatch(experiment):
        raise ValueError(f"experiment name {experiment!r}: use letters, digits, _ and - only")
    try:
        return _new_folder(root, experiment, now)
    except OSError as error:
        raise StoreError(f"{root}: no run can be written there ({error}); give another folder") from error


def _new_folder(root: Path, experiment: str, now: datetime) -> Path:
    day = root / now.strftime("%Y-%m-%d")
    day.mkdir(parents=True, exist_ok=True)
    while True:
        folder = day / _run_name(now, experiment, secrets.token_hex(3))
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        sync_folder(day)
        sync_folder(root)
        return folder


class FolderLock:
    """The only writer of a run's folder; the kernel frees the lock when the process dies.

    Raises StoreError when another process, or another writer of this one, has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = _lock(folder)

    def release(self) -> None:
        """Give the lock back; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(folder: Path) -> int:
    # POSIX locks the folder itself; Windows cannot open one and needs a file
    windows = sys.platform == "win32"
    fd = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT) if windows else os.open(folder, os.O_RDONLY)
    try:
        _lock_fd_soon(fd)
    except OSError as error:
        os.close(fd)
        raise StoreError(f"{folder}: the run is still being written; wait for its end") from error
    return fd


if sys.platform == "win32":
    import msvcrt

    def _lock_fd(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_fd(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_fd_soon(fd: int) -> None:
    for _ in range(5):  # somebody may be in `is_locked`, which takes microseconds
        with suppress(OSError):
            return _lock_fd(fd)
        time.sleep(0.002)
    _lock_fd(fd)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raises like `FolderLock`."""
    lock = FolderLock(folder)
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """True while a writer lives."""
    try:
        FolderLock(folder).release()
    except StoreError:
        return True
    return False


def find_run(path: Path) -> Path:
    """The run folder for a folder or a file in it. Raises RunNotFound with the nearest run."""
    folder = path.parent if path.name in (RUN_FILE, JOURNAL) else path
    if (folder / RUN_FILE).exists() or (folder / JOURNAL).exists():
        return folder
    raise RunNotFound(f"{path}: no run here ({RUN_FILE} or {JOURNAL} is missing); {_advice(folder)}")


def _advice(folder: Path) -> str:
    root = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), folder)
    runs = {info.path.name: info.path for info in (*list_runs(root), *_runs_of_day(root))}
    near = difflib.get_close_matches(folder.name, runs, n=1, cutoff=0.4) or sorted(runs, reverse=True)[:1]
    return f"did you mean {runs[near[0]]}?" if near else f"no run is under {root}; check the data folder"


def list_runs(root: Path | str) -> list[RunInfo]:
    """The runs under `root`, newest first; looks at names only, opens no file."""
    days = [path for path in Path(root).glob("????-??-??") if path.is_dir()]
    return [info for day in sorted(days, reverse=True) for info in _runs_of_day(day)]


def _run_name(now: datetime, experiment: str, token: str) -> str:
    return f"{now:%H%M%S}_{experiment}_{token}"


def run_folders(root: Path) -> Iterator[Path]:
    """The folders of the runs under `root`, newest day first; looks at no file in them."""
    for day in sorted(root.glob("????-??-??"), reverse=True):
        with os.scandir(day) as items:
            names = [item.name for item in items if _RUN.fullmatch(item.name)]
        yield from (day / name for name in names)


def list_orphans(root: Path | str) -> list[RunInfo]:
    """The runs under `root` whose process died before their end, newest first."""
    return [info for info in list_runs(root) if (info.path / JOURNAL).exists() and not is_locked(info.path)]


def _runs_of_day(day: Path) -> list[RunInfo]:
    found = [info for path in day.iterdir() if (info := _info(path))] if day.is_dir() else []
    return sorted(found, key=lambda info: info.path.name, reverse=True)


def _info(folder: Path) -> RunInfo | None:
    match = _RUN.fullmatch(folder.name)
    if match is None:
        return None
    try:
        started = datetime.strptime(f"{folder.parent.name} {match[1]}", "%Y-%m-%d %H%M%S")
    except ValueError:
        return None
    return RunInfo(folder, match[2], started, (folder / RUN_FILE).exists())
