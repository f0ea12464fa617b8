"""Everything that changes the disk: the only place where the store opens, writes, syncs and renames files.

Each function is one step that a crash can fall before or after, so a test that records or refuses these
calls sees all that a run does to its folder. (HDF5 writes its files itself, through `new_hdf5`.)
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
Buffer = bytes | memoryview  # of bytes
_SMALL = 64 << 10
_MOST_PARTS = 1000  # what one call may gather
_fdatasync = getattr(os, "fdatasync", os.fsync)


def is_full(error: BaseException | None) -> bool:
    """True when `error` says that the disk, or what a quota leaves of it, is full."""
    return isinstance(error, OSError) and error.errno in FULL


def open_to_append(path: Path, *, new: bool) -> int:
    """A descriptor that writes behind the end of a file. Raises FileExistsError when a `new` one exists."""
    flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if new else 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)


def write(fd: int, parts: Sequence[Buffer]) -> int:
    """Write bytes one after the other, without copying many; returns their number."""
    size = sum(map(len, parts))
    if size <= _SMALL or len(parts) > _MOST_PARTS or not hasattr(os, "writev"):
        parts = [b"".join(parts)]
    done = os.write(fd, parts[0]) if len(parts) == 1 else os.writev(fd, parts)
    if done < size:
        rest = memoryview(b"".join(parts))
        while done < size:
            done += os.write(fd, rest[done:])
    return size


def cut(fd: int, size: int) -> None:
    """Cut an open file back to `size` bytes."""
    os.ftruncate(fd, size)


def close(fd: int) -> None:
    """Close a descriptor."""
    os.close(fd)


def sync(fd: int) -> None:
    """Make what was written to an open file survive a power cut."""
    _fdatasync(fd)


def sync_file(path: Path) -> None:
    """Make a closed file survive a power cut."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (POSIX; Windows does so by itself)."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(source: Path, target: Path) -> None:
    """Give a file its final name; a file of that name is replaced in one step."""
    os.replace(source, target)


def keep_as(path: Path, name: Path) -> None:
    """Give a file a second name, so that it stays when another takes the first; copies where it must."""
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)
        sync_file(name)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    path.unlink(missing_ok=True)


def reserve(path: Path, size: int) -> None:
    """A file that takes `size` bytes of the disk. Raises OSError when there is no room for it."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def new_hdf5(path: Path) -> Any:
    """An HDF5 file to write, readable by HDF5 1.10 and later; an existing one is replaced."""
    import h5py  # here, so that who only looks through folders does not wait for it

    return h5py.File(path, "w", libver=("earliest", "v110"), locking=False)


def read_hdf5(path: Path) -> Any:
    """An HDF5 file to read. Raises OSError when it is missing or broken.

    HDF5 is told not to lock: a run file has one writer, who holds the folder's lock, and never changes under
    its own name; and a lock would stay with a child process that is being started at this moment.
    """
    import h5py

    return h5py.File(path, "r", locking=False)
