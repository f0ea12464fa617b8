"""The tag stream of a run between tag blocks and chunks.

All blocks of a run, in the order in which they were appended, form one stream that is cut into chunks of
`CHUNK` tags. The record of a block holds the whole chunks that the block completes, in their final form, and
after them its remaining tags as plain differences. The remainder of earlier blocks is then superseded by the
chunk. So every acknowledged tag is in the journal, and finishing a run copies the chunks as they are; only
the last one is still to be compressed. The price is 5 bytes per tag in the journal, for blocks shorter than a
chunk, until the run is finished; chunks of the blocks' own lengths would cost it in the final file for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import Gap, TagBlock

from .codec import CHUNK, ChunkCodec, checksum, pad, to_steps, to_times
from .folder import RUN_FILE
from .journal import Buffer, Record

Tags = tuple[NDArray[np.int64], NDArray[np.int32]]
ReadChunk = Callable[[int], Tags]


@dataclass(frozen=True)
class EncodedChunk:
    """One chunk in its final form; `crc` is that of the expanded steps and channels."""

    steps: Buffer
    channels: Buffer
    crc: int


@dataclass
class BlockTable:
    """One row per block, in the order of the stream; `gaps` by block number."""

    acquisition: list[int] = field(default_factory=list)
    begin_ps: list[int] = field(default_factory=list)
    end_ps: list[int] = field(default_factory=list)
    epoch: list[int] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)
    gaps: dict[int, tuple[Gap, ...]] = field(default_factory=dict)

    def add(self, header: dict[str, Any]) -> None:
        """Take the block described by the header of its record."""
        if header["gaps"]:
            self.gaps[len(self.tags)] = tuple(gap_from_json(gap) for gap in header["gaps"])
        for name in ("acquisition", "begin_ps", "end_ps", "epoch", "tags"):
            getattr(self, name).append(header[name])

    @property
    def total(self) -> int:
        """Number of tags of the run."""
        return sum(self.tags)


class ChunkEncoder:
    """Times and channels of one whole chunk to its final form."""

    def __init__(self) -> None:
        self._steps = ChunkCodec(np.int64)
        self._channels = ChunkCodec(np.int32)

    def encode(self, times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> EncodedChunk:
        """Shorter input is filled up with zeros."""
        steps, channels = pad(to_steps(times_ps)), pad(channels)
        return EncodedChunk(
            self._steps.encode(steps), self._channels.encode(channels), checksum(steps, channels)
        )

    def decode(self, steps: Buffer, channels: Buffer) -> Tags:
        """Times and channels, shape (CHUNK,), of compressed bytes."""
        return to_times(self._steps.decode(steps)), self._channels.decode(channels)


class TagEncoder:
    """Turns blocks into journal records; keeps the tags that do not fill a chunk yet. One thread only.

    rest: such tags of an interrupted run.
    """

    def __init__(self, rest: Tags | None = None) -> None:
        self._chunks = ChunkEncoder()
        self._times_ps = np.empty(CHUNK, np.int64)
        self._channels = np.empty(CHUNK, np.int32)
        self._filled = 0
        if rest is not None:
            self._fill(*rest)

    def encode(self, acquisition: int, block: TagBlock) -> tuple[dict[str, Any], list[Buffer]]:
        """Header and raw data of the record of `block`."""
        chunks, begin = [], 0
        while len(block) - begin >= CHUNK - self._filled:
            end = begin + CHUNK - self._filled
            self._fill(block.times_ps[begin:end], block.channels[begin:end])
            begin = end
            chunks.append(self._chunks.encode(self._times_ps, self._channels))
            self._filled = 0
        self._fill(block.times_ps[begin:], block.channels[begin:])
        rest, rest_buffers = _pack_rest(block.times_ps[begin:], block.channels[begin:])
        header = {
            "acquisition": acquisition,
            "begin_ps": int(block.begin_ps),
            "end_ps": int(block.end_ps),
            "epoch": int(block.epoch),
            "tags": len(block),
            "live_time_ps": int(block.live_time_ps),
            "gaps": [gap_to_json(gap) for gap in block.gaps],
            "chunks": [[len(chunk.steps), len(chunk.channels), chunk.crc] for chunk in chunks],
            "rest": rest,
        }
        return header, [part for chunk in chunks for part in (chunk.steps, chunk.channels)] + rest_buffers

    def _fill(self, times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> None:
        stop = self._filled + times_ps.size
        self._times_ps[self._filled : stop] = times_ps
        self._channels[self._filled : stop] = channels
        self._filled = stop


def gap_to_json(gap: Gap) -> list[Any]:
    """A gap as plain values."""
    missed = {str(channel): int(count) for channel, count in gap.missed.items()}
    return [int(gap.begin_ps), int(gap.end_ps), missed]


def gap_from_json(values: Sequence[Any]) -> Gap:
    """Inverse of `gap_to_json`."""
    begin_ps, end_ps, missed = values
    return Gap(begin_ps, end_ps, {int(channel): count for channel, count in missed.items()})


def _pack_rest(times_ps: NDArray[np.int64], channels: NDArray[np.int32]) -> tuple[list[Any], list[Buffer]]:
    """Tags as [count, first time, dtype of steps, dtype of channels] and the two arrays in small dtypes."""
    if times_ps.size == 0:
        return [0, 0, "u1", "i1"], []
    steps = np.diff(times_ps.view(np.uint64))  # modulo 2**64: ascending times give the true step
    small_steps = steps.astype(np.min_scalar_type(int(steps.max(initial=0))))
    bounds = (np.min_scalar_type(int(channels.min())), np.min_scalar_type(int(channels.max())))
    small_channels = channels.astype(np.result_type(*bounds))
    layout = [times_ps.size, int(times_ps[0]), small_steps.dtype.str, small_channels.dtype.str]
    return layout, [small_steps.tobytes(), small_channels.tobytes()]


def _unpack_rest(layout: Sequence[Any], data: memoryview) -> Tags:
    count, first_ps, steps_dtype, channels_dtype = layout
    if count == 0:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    steps = np.frombuffer(data, steps_dtype, count - 1)
    channels = np.frombuffer(data, channels_dtype, count, offset=steps.nbytes)
    times_ps = np.empty(count, np.uint64)
    times_ps[0] = np.int64(first_ps).view(np.uint64)
    times_ps[1:] = steps
    return np.cumsum(times_ps, dtype=np.uint64).view(np.int64), channels.astype(np.int32)


class TagSource(Protocol):
    """Where the chunks of a run are."""

    def opened(self) -> Any:
        """Context manager giving a `ReadChunk`; the last chunk may come padded with zeros."""


@dataclass
class JournalTags:
    """The chunks of a journal: places of the whole ones, and the tags after them."""

    path: Path
    places: list[tuple[int, int, int, int]] = field(default_factory=list)  # offset, sizes of the parts, crc
    rest: list[Tags] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take a TAGS record."""
        position = 0
        for steps_size, channels_size, crc in record.header["chunks"]:
            self.places.append((record.data_offset + position, steps_size, channels_size, crc))
            self.rest.clear()
            position += steps_size + channels_size
        if record.header["rest"][0]:
            self.rest.append(_unpack_rest(record.header["rest"], record.data[position:]))

    def last_tags(self) -> Tags:
        """The tags that do not fill a chunk."""
        times_ps = np.concatenate([np.empty(0, np.int64), *(times for times, _ in self.rest)])
        return times_ps, np.concatenate([np.empty(0, np.int32), *(channels for _, channels in self.rest)])

    def encoded(self) -> Iterator[EncodedChunk]:
        """All chunks in their final form, in order."""
        with self.path.open("rb") as file:
            for place in self.places:
                yield _read_place(file, place)
        times_ps, channels = self.last_tags()
        if times_ps.size:
            yield ChunkEncoder().encode(times_ps, channels)

    @contextmanager
    def opened(self) -> Iterator[ReadChunk]:
        """See `TagSource`. Once the run is finished, the same stream is read from its file."""
        if not self.path.exists():
            with HDF5Tags(self.path.with_name(RUN_FILE)).opened() as read_finished_chunk:
                yield read_finished_chunk
            return
        decoder = ChunkEncoder()
        with self.path.open("rb") as file:

            def read_chunk(number: int) -> Tags:
                if number == len(self.places):
                    return self.last_tags()
                chunk = _read_place(file, self.places[number])
                return decoder.decode(chunk.steps, chunk.channels)

            yield read_chunk


def _read_place(file: BinaryIO, place: tuple[int, int, int, int]) -> EncodedChunk:
    offset, steps_size, channels_size, crc = place
    file.seek(offset)
    data = memoryview(file.read(steps_size + channels_size))
    return EncodedChunk(data[:steps_size], data[steps_size:], crc)


@dataclass(frozen=True)
class HDF5Tags:
    """The chunks of a finished run file."""

    path: Path

    @contextmanager
    def opened(self) -> Iterator[ReadChunk]:
        """See `TagSource`."""
        with h5py.File(self.path, "r") as file:
            steps, channels = file["entry/tags/time_step"], file["entry/tags/channel"]

            def read_chunk(number: int) -> Tags:
                part = slice(number * CHUNK, (number + 1) * CHUNK)
                return to_times(steps[part]), channels[part]

            yield read_chunk


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
            times_ps, channels = _read_tags(read_chunk, first, first + table.tags[number])
            yield TagBlock(
                times_ps,
                channels,
                table.begin_ps[number],
                table.end_ps[number],
                table.gaps.get(number, ()),
                table.epoch[number],
            )


def _read_tags(read_chunk: ReadChunk, first: int, last: int) -> Tags:
    parts = [(np.empty(0, np.int64), np.empty(0, np.int32))]
    for number in range(first // CHUNK, -(-last // CHUNK) if last > first else 0):
        times_ps, channels = read_chunk(number)
        part = slice(max(first - number * CHUNK, 0), last - number * CHUNK)
        parts.append((times_ps[part], channels[part]))
    times, numbers = zip(*parts, strict=True)
    return np.concatenate(times), np.concatenate(numbers)
