"""Where the tags of a run are: in its journal, in sealed tag files, in its run file; read back as blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from labctl.timetags.block import TagBlock

from .chunkfile import TAGS_GROUP, ChunkGroup, open_tag_file, tag_file
from .codec import CHUNK, ChannelTable, ChunkCodec, EncodedChunk, PackedTags, pack
from .errors import StoreError
from .folder import RUN_FILE
from .records import Kind, Record, read_journal
from .tags import BlockTable, Tags, chunk_bytes, chunk_from_bytes, rest_from_bytes

ReadChunk = Callable[[int], Tags]


class TagSource(Protocol):
    """Where the chunks of a run are."""

    def opened(self) -> Any:
        """Context manager giving a `ReadChunk`; the last chunk may come padded with zeros."""


@dataclass(frozen=True)
class JournalPlace:
    """A chunk in a segment of the journal; `layout` as in the record's header."""

    path: Path
    offset: int
    layout: tuple[int, ...]

    def read(self) -> EncodedChunk:
        """The chunk, as long as the segment is not replaced by its sealed form."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = memoryview(file.read(chunk_bytes(self.layout)))
        if len(data) < chunk_bytes(self.layout):
            raise StoreError(f"{self.path}: the chunk at {self.offset} is not there any more")
        return chunk_from_bytes(self.layout, data)


@dataclass(frozen=True)
class SealedPlace:
    """Chunk `index` of the sealed tag file `number`."""

    number: int
    index: int


Place = JournalPlace | SealedPlace


@dataclass
class JournalTags:
    """The chunks of a journal: places of the whole ones, and the tags after them."""

    path: Path
    places: list[Place] = field(default_factory=list)
    rest: list[PackedTags] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    total: int = 0

    def add(self, record: Record) -> bool:
        """Take a TAGS record; False for one that does not continue the stream, because others are lost."""
        header = record.header
        if header["first"] != self.total:
            return False
        self.total += header["tags"]
        self.channels = header["channels"]
        places, position = places_of(record)
        if places:
            self.places += places
            self.rest.clear()
        if header["rest"][0]:
            self.rest.append(rest_from_bytes(header["rest"], record.data[position:]))
        return True

    @property
    def sealed(self) -> dict[int, int]:
        """Number of chunks in each sealed tag file, by its number."""
        counts: dict[int, int] = {}
        for place in self.places:
            if isinstance(place, SealedPlace):
                counts[place.number] = counts.get(place.number, 0) + 1
        return counts

    @property
    def unsealed(self) -> list[JournalPlace]:
        """The whole chunks that are in no sealed tag file."""
        return [place for place in self.places if isinstance(place, JournalPlace)]

    def last_tags(self) -> Tags:
        """The tags that do not fill a chunk."""
        table = ChannelTable(self.channels)
        times = [part.times_ps() for part in self.rest]
        channels = [table.channels(part.places) for part in self.rest]
        return (
            np.concatenate([np.empty(0, np.int64), *times]),
            np.concatenate([np.empty(0, np.int32), *channels]),
        )

    def encoded(self) -> Iterator[EncodedChunk]:
        """The chunks that are in no sealed tag file, in their final form and in order."""
        for place in self.unsealed:
            yield place.read()
        times_ps, channels = self.last_tags()
        if times_ps.size:
            yield ChunkCodec().encode(pack(times_ps, ChannelTable(self.channels).places(channels)))

    @contextmanager
    def opened(self) -> Iterator[ReadChunk]:
        """See `TagSource`. Chunks that were moved since this was read are found where they are now."""
        with ExitStack() as stack:
            chunks = stack.enter_context(self.reader())

            def read_chunk(number: int) -> Tags:
                if number == len(self.places):
                    return self.last_tags()
                try:
                    return chunks.read(number)
                except (OSError, StoreError):
                    return stack.enter_context(_moved(self.path))(number)

            yield read_chunk

    def reader(self) -> ChunkReader:
        """Reads the whole chunks from where they are."""
        return ChunkReader(self.path.parent, dict(enumerate(self.places)), self.channels)


@contextmanager
def _moved(path: Path) -> Iterator[ReadChunk]:
    """The chunks of a journal that has changed since it was read: sealed, or finished."""
    try:
        tags = journal_tags(path)
    except FileNotFoundError:
        with HDF5Tags(path.with_name(RUN_FILE)).opened() as read_chunk:
            yield read_chunk
    else:
        with tags.reader() as chunks:
            yield chunks.read


class ChunkReader:
    """Reads chunks by their number from the `places` in a run's folder; a context manager.

    channels: the table of channel numbers.
    """

    def __init__(self, folder: Path, places: Mapping[int, Place], channels: Sequence[int]) -> None:
        self._folder = folder
        self._places = places
        self._codec = ChunkCodec()
        self._table = ChannelTable(channels)
        self._files = ExitStack()
        self._sealed: dict[int, ChunkGroup] = {}

    def __enter__(self) -> ChunkReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def read(self, number: int) -> Tags:
        """Times and channels. Raises KeyError for an unknown chunk, StoreError or OSError if it is spoilt."""
        place = self._places[number]
        if isinstance(place, SealedPlace):
            return self._open(place.number).tags(place.index)
        encoded = place.read()
        packed = self._codec.decode(encoded)
        if packed.crc() != encoded.crc:
            raise StoreError(f"{place.path}: the chunk at {place.offset} is spoilt, or was moved")
        return packed.times_ps(), self._table.channels(packed.places)

    def _open(self, number: int) -> ChunkGroup:
        if number not in self._sealed:
            file = self._files.enter_context(open_tag_file(tag_file(self._folder, number)))
            self._sealed[number] = ChunkGroup(file[TAGS_GROUP])
        return self._sealed[number]


def places_of(record: Record) -> tuple[list[Place], int]:
    """Where the chunks of a TAGS record are, and the position behind them in the record's raw data."""
    header, position = record.header, 0
    places: list[Place] = []
    if "sealed" in header:
        number, index, count = header["sealed"]
        places += [SealedPlace(number, index + k) for k in range(count)]
        return places, 0
    for layout in header["chunks"]:
        places.append(JournalPlace(record.path, record.data_offset + position, tuple(layout)))
        position += chunk_bytes(layout)
    return places, position


def journal_tags(path: Path) -> JournalTags:
    """The tags of a journal as they are now."""
    tags = JournalTags(path)
    for record in read_journal(path):
        if record.kind is Kind.TAGS:
            tags.add(record)
    return tags


@dataclass(frozen=True)
class HDF5Tags:
    """The chunks of a finished run file and of the sealed tag files that it is linked to."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[ReadChunk]:
        """See `TagSource`. Raises StoreError when a sealed tag file is missing."""
        with open_tag_file(self.path) as file:
            groups = self._groups(file[TAGS_GROUP])
            starts = np.cumsum([0, *(group.count for group in groups)])

            def read_chunk(number: int) -> Tags:
                part = int(np.searchsorted(starts, number, side="right")) - 1
                return groups[part].tags(number - int(starts[part]))

            yield read_chunk

    def _groups(self, own: Any) -> list[ChunkGroup]:
        parts = own.get("parts", ())
        try:
            sealed = [ChunkGroup(parts[name]) for name in sorted(parts)]
        except KeyError as error:
            names = ", ".join(parts.get(name, getlink=True).filename for name in sorted(parts))
            raise StoreError(
                f"{self.path}: its tags are also in {names}, which cannot all be read ({error}); "
                "keep the files of a run together"
            ) from error
        return [*sealed, ChunkGroup(own)]


def read_blocks(
    source: TagSource, table: BlockTable, first_tags: Sequence[int], numbers: Sequence[int]
) -> Iterator[TagBlock]:
    """The blocks with the given numbers; holds two chunks and one block in memory.

    first_tags: the position of each block's first tag in the stream.
    """
    with source.opened() as uncached:
        read_chunk = lru_cache(maxsize=2)(uncached)
        for number in numbers:
            first = int(first_tags[number])
            times_ps, channels = read_span(read_chunk, first, first + table.tags[number])
            yield TagBlock(
                times_ps,
                channels,
                table.begin_ps[number],
                table.end_ps[number],
                table.gaps.get(number, ()),
                table.epoch[number],
            )


def read_span(read_chunk: ReadChunk, first: int, last: int) -> Tags:
    """The tags [first, last) of the stream."""
    parts = [(np.empty(0, np.int64), np.empty(0, np.int32))]
    for number in range(first // CHUNK, -(-last // CHUNK) if last > first else 0):
        times_ps, channels = read_chunk(number)
        part = slice(max(first - number * CHUNK, 0), last - number * CHUNK)
        parts.append((times_ps[part], channels[part]))
    times, numbers = zip(*parts, strict=True)
    return np.concatenate(times), np.concatenate(numbers)
