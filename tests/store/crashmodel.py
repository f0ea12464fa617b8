"""A model of a disk that can be cut off: every change that a run makes, replayed up to any moment.

`record` runs a reference run while `labctl.store.disk` is watched: each write (also those of HDF5, whose
files go through a Python file object), each cut, sync, rename, link and removal is put into one list, in the
order in which it was made. `Disk` replays the list. After the death of a process its state is what the files
hold;
after a power cut only what was synced is certain: of the later writes any 4 KiB page may be missing, files
may be shorter, and names given or removed since the folder was synced may be lost, the last ones first.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import h5py

from labctl.store import RunWriter, StoreError, disk, finish_journal, open_run
from labctl.store.codec import CHUNK
from labctl.timetags.block import TagBlock

from .helpers import CHANNELS, assert_same_blocks, make_block

PAGE = 4096
SIZES = [50, CHUNK // 2, 400, CHUNK // 2, 7, CHUNK + 3, 90, CHUNK, 30]


@dataclass(frozen=True)
class Step:
    """One change: `call` of Disk with its arguments, or what the run was told to be safe by then (`mark`)."""

    call: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Given:
    """How many rows, blocks and audit entries were given to the run."""

    rows: int = 0
    blocks: int = 0
    audit: int = 0


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


class Disk:
    """The state of one folder after some steps."""

    def __init__(self) -> None:
        self.files: dict[int, _File] = {}
        self.names: dict[str, int] = {}
        self.durable_names: dict[str, int] = {}
        self.later: list[Step] = []
        self.acknowledged: Given | None = None
        self.durable: Given | None = None

    def apply(self, step: Step) -> None:
        """Make one step."""
        getattr(self, step.call)(*step.arguments)
        if step.call in ("create", "rename", "link", "remove"):
            self.later.append(step)

    def create(self, number: int, name: str) -> None:
        self.files.setdefault(number, _File())
        self.names[name] = number

    def write(self, number: int, offset: int, data: bytes) -> None:
        content = self.files[number].content
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def cut(self, number: int, size: int) -> None:
        content = self.files[number].content
        content.extend(bytes(max(0, size - len(content))))
        del content[size:]

    def sync(self, number: int) -> None:
        self.files[number].durable = bytes(self.files[number].content)

    def rename(self, name: str, other: str) -> None:
        if name in self.names:
            self.names[other] = self.names.pop(name)

    def link(self, name: str, other: str) -> None:
        if name in self.names:
            self.names[other] = self.names[name]

    def remove(self, name: str) -> None:
        self.names.pop(name, None)

    def sync_folder(self) -> None:
        self.durable_names = dict(self.names)
        self.later.clear()

    def mark(self, given: Given, durable: bool) -> None:
        self.acknowledged = given
        self.durable = given if durable else self.durable

    def put(self, folder: Path) -> None:
        """The files as a new process finds them."""
        for name, number in self.names.items():
            (folder / name).write_bytes(self.files[number].content)

    def put_after_power_cut(self, folder: Path, rng: random.Random) -> None:
        """The files as they may be after a power cut."""
        names = Disk()
        names.names = dict(self.durable_names)
        names.files = self.files
        for step in self.later[: rng.randint(0, len(self.later))]:
            getattr(names, step.call)(*step.arguments)
        for name, number in names.names.items():
            (folder / name).write_bytes(_what_is_left(self.files[number], rng))


def _what_is_left(file: _File, rng: random.Random) -> bytes:
    old, new = file.durable, bytes(file.content)
    if old == new:
        return old
    low, high = sorted((len(old), len(new)))
    size = rng.choice([low, high, rng.randint(low, high)])
    old, new = old.ljust(size, b"\0"), new.ljust(size, b"\0")
    keep = rng.choice([0.1, 0.5, 0.9])
    pages = range(0, size, PAGE)
    return b"".join((new if rng.random() < keep else old)[page : min(page + PAGE, size)] for page in pages)


class _Recorder:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.lock = threading.RLock()
        self.numbers: dict[str, int] = {}  # of the files, by name
        self.open: dict[int, tuple[int, int]] = {}  # file and size by descriptor
        self.count = 0
        self.hdf5: list[_WatchedFile] = []

    def add(self, call: str, *arguments: Any) -> None:
        self.steps.append(Step(call, arguments))

    def new_file(self, path: Path) -> int:
        self.count += 1
        self.numbers[path.name] = self.count
        self.add("create", self.count, path.name)
        return self.count

    def open_to_append(self, real: Any, path: Path, *, new: bool) -> int:
        fd: int = real(path, new=new)
        number = self.new_file(path) if new else self.numbers[path.name]
        self.open[fd] = (number, path.stat().st_size)
        return fd

    def write(self, real: Any, fd: int, parts: Any) -> int:
        number, size = self.open[fd]
        data = b"".join(parts)
        self.add("write", number, size, data)
        self.open[fd] = (number, size + len(data))
        return int(real(fd, parts))

    def cut(self, real: Any, fd: int, size: int) -> None:
        number, _ = self.open[fd]
        self.open[fd] = (number, size)
        self.add("cut", number, size)
        real(fd, size)

    def sync(self, real: Any, fd: int) -> None:
        real(fd)
        self.add("sync", self.open[fd][0])

    def sync_file(self, real: Any, path: Path) -> None:
        real(path)
        self.add("sync", self.numbers[path.name])

    def sync_folder(self, real: Any, folder: Path) -> None:
        real(folder)
        self.add("sync_folder")

    def rename(self, real: Any, path: Path, other: Path) -> None:
        self.add("rename", path.name, other.name)
        self.numbers[other.name] = self.numbers.pop(path.name)
        real(path, other)

    def keep_as(self, real: Any, path: Path, name: Path) -> None:
        self.add("remove", name.name)
        self.add("link", path.name, name.name)
        self.numbers[name.name] = self.numbers[path.name]
        real(path, name)

    def remove(self, real: Any, path: Path) -> None:
        self.add("remove", path.name)
        real(path)

    def reserve(self, real: Any, path: Path, size: int) -> None:
        self.new_file(path)
        path.touch()

    def new_hdf5(self, real: Any, path: Path) -> Any:
        file = _WatchedFile(self, path)
        self.hdf5.append(file)
        return h5py.File(file, "w", libver=("earliest", "v110"))


class _WatchedFile:
    """A file for HDF5 that reports what is written to it."""

    def __init__(self, recorder: _Recorder, path: Path) -> None:
        self._recorder = recorder
        with recorder.lock:
            self._number = recorder.new_file(path)
        self._file: BinaryIO = path.open("w+b", buffering=0)  # type: ignore[assignment]
        self.seek, self.tell, self.flush = self._file.seek, self._file.tell, self._file.flush
        self.read, self.close = self._file.read, self._file.close
        self.readinto = self._file.readinto  # type: ignore[attr-defined]

    def write(self, data: Any) -> int:
        with self._recorder.lock:
            self._recorder.add("write", self._number, self._file.tell(), bytes(data))
            return self._file.write(data)

    def truncate(self, size: int) -> int:
        with self._recorder.lock:
            self._recorder.add("cut", self._number, size)
            return self._file.truncate(size)


@contextmanager
def _watched(recorder: _Recorder) -> Iterator[None]:
    def watch(name: str) -> Callable[..., Any]:
        real, seen = getattr(disk, name), getattr(recorder, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            # HDF5 has a lock of its own, which is taken first when it writes
            with nullcontext() if name == "new_hdf5" else recorder.lock:
                return seen(real, *args, **kwargs)

        return call

    names = ("open_to_append", "write", "cut", "sync", "sync_file", "rename", "keep_as", "remove", "reserve")
    watched = {name: watch(name) for name in (*names, "sync_folder", "new_hdf5")}
    with mock.patch.multiple(disk, **watched):
        yield
    for file in recorder.hdf5:
        file.close()


def row_values(index: int) -> dict[str, Any]:
    """What the reference run records for a point."""
    return {"x": index * 0.5, "n": index * 7, "text": f"point {index}", "good": index % 3 == 0}


def block(number: int) -> TagBlock:
    """The tags that the reference run takes."""
    return make_block(number, SIZES[number], number * 10**13)


def record(root: Path, rows_each: int = 12) -> list[Step]:
    """All steps of a reference run: it is sealed twice, aborted, goes on, and ends with success."""
    recorder = _Recorder()
    given = {"rows": 0, "blocks": 0, "audit": 0}

    def mark(durable: bool) -> None:
        with recorder.lock:
            recorder.add("mark", Given(**given), durable)

    def take(writer: RunWriter, numbers: range) -> None:
        acquisition = writer.begin_acquisition(CHANNELS, "s", numbers.start, 0.0)
        for number in numbers:
            writer.tags(acquisition, block(number))
            given["blocks"] += 1
            for _ in range(rows_each):
                index = given["rows"]
                writer.audit("stage", "position", index, float(index))
                writer.monitor("temperature", 4.0, "K", float(index))
                writer.row("s", index, 0, row_values(index), {"x": "m"}, float(index))
                given["rows"] += 1
                given["audit"] += 1
                durable = index % 5 == 4
                writer.flush(durable=durable)
                mark(durable)
        writer.end_acquisition(acquisition, 1)

    half = len(SIZES) // 2 + 1
    options = {"segment_limit": 400_000, "sync_period_s": 0.005}
    with _watched(recorder):
        writer = RunWriter.create(root, "reference", {}, **options)
        mark(True)
        take(writer, range(half))
        writer.finish("abort")
        mark(True)
        writer = RunWriter.resume(writer.directory, **options)
        mark(True)
        take(writer, range(half, len(SIZES)))
        writer.finish("success")
        mark(True)
    return recorder.steps


def check(folder: Path, safe: Given | None) -> None:
    """Recover what is in `folder`: it must hold all that was safe, and nothing that was never given.

    Behind a spoilt record, as a power cut may leave one, later ones may be there: they must be right too.
    """
    try:
        run = open_run(finish_journal(folder))
    except StoreError:
        assert safe is None, "nothing could be read although something was safe"
        return
    safe = safe or Given()
    rows = run.rows("s") if run.sweeps else {}
    indices = [int(index) for index in rows.get("index", ())]
    _check_order("rows", indices, safe.rows)
    for name in row_values(0) if rows else ():
        assert rows[name].tolist() == [row_values(index)[name] for index in indices], f"garbage in {name}"
    _check_order("audit entries", [entry.value for entry in run.audit], safe.audit)
    blocks = [item for acquisition in run.acquisitions for item in run.tag_blocks(acquisition)]
    numbers = [item.begin_ps // 10**13 for item in blocks]
    _check_order("blocks", numbers, safe.blocks)
    assert_same_blocks(blocks, [block(number) for number in numbers])
    assert not (folder / "run.journal").exists() and (folder / "run.h5").exists()


def _check_order(what: str, numbers: list[int], safe: int) -> None:
    assert numbers == sorted(set(numbers)), f"{what} out of order"
    assert set(range(safe)) <= set(numbers), f"{what}: {safe} were safe, {len(numbers)} are there"
