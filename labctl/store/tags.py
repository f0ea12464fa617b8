"""The tag stream of a run: how tag blocks become records of the journal.

All blocks of a run, in the order in which they were appended, form one stream that is cut into chunks of
`CHUNK` tags. The record of a block holds the whole chunks that the block completes, in their final form, and
after them its remaining tags as plain steps. The remainder of earlier blocks is then superseded by the
chunk. So every acknowledged tag is in the journal, and finishing a run copies the chunks as they are; only
the last one is still to be compressed. The price is 5 bytes per tag in the journal, for blocks shorter than a
chunk, until the run is finished; chunks of the blocks' own lengths would cost it in the final file for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import Gap, TagBlock

from .codec import CHUNK, ChannelTable, ChunkCodec, EncodedChunk, PackedTags, pack
from .disk import Buffer

Tags = tuple[NDArray[np.int64], NDArray[np.int32]]  # times in ps and channel numbers
_CARRY_BYTES = 16


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


class TagEncoder:
    """Turns blocks into journal records; keeps the tags that do not fill a chunk yet. One thread at a time.

    chunks: number of whole chunks that the stream has already; rest: the tags behind them.
    channels: the table of channel numbers that they were encoded with.
    """

    def __init__(self, chunks: int = 0, rest: Tags | None = None, channels: Sequence[int] = ()) -> None:
        self._codec = ChunkCodec()
        self._table = ChannelTable(channels)
        self._times_ps = np.empty(CHUNK, np.int64)
        self._places = np.empty(CHUNK, np.uint8)
        self._chunks = chunks
        self._filled = 0
        if rest is not None:
            self._fill(rest[0], self._table.places(rest[1]))

    def encode(self, acquisition: int, block: TagBlock) -> tuple[dict[str, Any], list[Buffer]]:
        """Header and raw data of the record of `block`. Raises StoreError for too many channels."""
        first = self._chunks * CHUNK + self._filled
        chunks, begin = [], 0
        while len(block) - begin >= CHUNK - self._filled:
            end = begin + CHUNK - self._filled
            chunks.append(self._complete(*self._part(block, begin, end)))
            begin = end
        times_ps, places = self._part(block, begin, len(block))
        self._fill(times_ps, places)
        rest = pack(times_ps, places)
        header = block_header(acquisition, block) | {
            "first": first,
            "channels": self._table.numbers,
            "chunks": [_chunk_layout(chunk) for chunk in chunks],
            "rest": [rest.steps.size, rest.begin_ps, len(rest.carries)],
        }
        buffers: list[Buffer] = []
        for chunk in chunks:
            buffers += [chunk.steps, chunk.places, chunk.carries.tobytes()]
        return header, [*buffers, rest.steps.tobytes(), rest.places.tobytes(), rest.carries.tobytes()]

    def _part(
        self, block: TagBlock, begin: int, end: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        return block.times_ps[begin:end], self._table.places(block.channels[begin:end])

    def _complete(self, times_ps: NDArray[np.int64], places: NDArray[np.uint8]) -> EncodedChunk:
        """The chunk that these tags complete."""
        if self._filled:
            self._fill(times_ps, places)
            times_ps, places = self._times_ps, self._places
        self._filled = 0
        self._chunks += 1
        return self._codec.encode(pack(times_ps, places))

    def _fill(self, times_ps: NDArray[np.int64], places: NDArray[np.uint8]) -> None:
        stop = self._filled + times_ps.size
        self._times_ps[self._filled : stop] = times_ps
        self._places[self._filled : stop] = places
        self._filled = stop


def block_header(acquisition: int, block: TagBlock) -> dict[str, Any]:
    """What a block is, without its tags, as plain values."""
    return {
        "acquisition": acquisition,
        "begin_ps": int(block.begin_ps),
        "end_ps": int(block.end_ps),
        "epoch": int(block.epoch),
        "tags": len(block),
        "live_time_ps": int(block.live_time_ps),
        "gaps": [gap_to_json(gap) for gap in block.gaps],
    }


def gap_to_json(gap: Gap) -> list[Any]:
    """A gap as plain values."""
    missed = {str(channel): int(count) for channel, count in gap.missed.items()}
    return [int(gap.begin_ps), int(gap.end_ps), missed]


def gap_from_json(values: Sequence[Any]) -> Gap:
    """Inverse of `gap_to_json`."""
    begin_ps, end_ps, missed = values
    return Gap(begin_ps, end_ps, {int(channel): count for channel, count in missed.items()})


def _chunk_layout(chunk: EncodedChunk) -> list[int]:
    return [len(chunk.steps), len(chunk.places), len(chunk.carries), chunk.begin_ps, chunk.crc]


def chunk_bytes(layout: Sequence[int]) -> int:
    """The length of a chunk in the raw data of a record, from its entry in the header."""
    steps_size, places_size, carries, _, _ = layout
    return steps_size + places_size + _CARRY_BYTES * carries


def chunk_from_bytes(layout: Sequence[int], data: memoryview) -> EncodedChunk:
    """The chunk that begins at the beginning of `data`."""
    steps_size, places_size, carries, begin_ps, crc = layout
    places_end = steps_size + places_size
    return EncodedChunk(
        begin_ps,
        data[:steps_size],
        data[steps_size:places_end],
        _carries(data, carries, places_end),
        crc,
    )


def rest_from_bytes(layout: Sequence[int], data: memoryview) -> PackedTags:
    """The tags behind the last chunk of a record; they begin at the beginning of `data`."""
    count, begin_ps, carries = layout
    steps = np.frombuffer(data, np.uint32, count)
    places = np.frombuffer(data, np.uint8, count, offset=steps.nbytes)
    return PackedTags(begin_ps, steps, places, _carries(data, carries, steps.nbytes + places.nbytes))


def _carries(data: memoryview, count: int, offset: int) -> NDArray[np.int64]:
    return np.frombuffer(data, np.int64, 2 * count, offset=offset).reshape(-1, 2)
