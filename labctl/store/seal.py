"""Sealing: the chunks of a complete segment move into a tag file, so that a long run needs its space once.

The tag file is written, verified, synced and renamed into place before the segment is replaced by its sealed
form, which has the same records without the chunks. A crash in between leaves a tag file to which no record
refers; it is removed when the run is completed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

from . import disk
from .chunkfile import tag_file, tag_files
from .errors import StoreError
from .nexus import write_tag_file
from .nexus_read import verify_tag_file
from .records import Kind, Record, frame, read_segment, to_json
from .sources import JournalTags, places_of
from .tags import chunk_bytes


def seal_segment(segment: Path) -> None:
    """Move the chunks of a complete segment into the next tag file beside it; nothing if it has none.

    Raises StoreError or OSError; then the segment is as it was.
    """
    tags = JournalTags(segment)
    for record in read_segment(segment):
        if record.kind is Kind.TAGS and "sealed" not in record.header:
            tags.places += places_of(record)[0]
            tags.channels = record.header["channels"]
    if not tags.unsealed:
        return
    number = max(tag_files(segment.parent), default=0) + 1
    final = tag_file(segment.parent, number)
    write_tag_file(_unfinished(final), tags)
    verify_tag_file(_unfinished(final))
    _put(final)
    last_chunk = tags.unsealed[-1].offset
    _write_sealed(segment, number, last_chunk)
    _put(segment)


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _put(path: Path) -> None:
    disk.sync_file(_unfinished(path))
    disk.rename(_unfinished(path), path)
    disk.sync_folder(path.parent)


def _write_sealed(segment: Path, number: int, last_chunk: int) -> None:
    disk.remove(_unfinished(segment))
    fd = disk.open_to_append(_unfinished(segment), new=True)
    try:
        for parts in _sealed_records(segment, number, last_chunk):
            disk.write(fd, parts)
    finally:
        disk.close(fd)


def _sealed_records(segment: Path, number: int, last_chunk: int) -> Iterator[list[disk.Buffer]]:
    index = 0
    for record in read_segment(segment):
        if record.kind is not Kind.TAGS or "sealed" in record.header:
            yield frame(record.kind, record.seq, to_json(record.header), [record.data])
            continue
        count = len(record.header["chunks"])
        yield _sealed_record(record, [number, index, count], last_chunk)
        index += count


def _sealed_record(record: Record, sealed: list[int], last_chunk: int) -> list[disk.Buffer]:
    size = sum(map(chunk_bytes, record.header["chunks"]))
    header, rest = {**record.header, "chunks": [], "sealed": sealed}, record.data[size:]
    if record.data_offset + size <= last_chunk:  # a later chunk has these tags
        header["rest"], rest = [0, 0, 0], rest[:0]
    return frame(record.kind, record.seq, to_json(header), [rest])


class Sealer:
    """Seals the segments that it is given, one after the other, in a thread of its own.

    A segment that cannot be sealed stays as it is; then the run needs more space, but nothing is lost.
    """

    def __init__(self) -> None:
        self._segments: SimpleQueue[Path | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.failures: list[str] = []

    def seal(self, segment: Path) -> None:
        """Seal a complete segment soon."""
        self._segments.put(segment)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"sealing {segment.parent}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait until all is sealed; idempotent."""
        if self._thread is not None:
            self._segments.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (segment := self._segments.get()) is not None:
            try:
                seal_segment(segment)
            except (OSError, RuntimeError, StoreError) as error:
                self.failures.append(f"{segment}: not sealed ({error})")
