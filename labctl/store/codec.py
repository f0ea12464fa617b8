"""Tags as chunks of one fixed size, each exactly the bytes that the chunks of an HDF5 file hold.

A chunk has the time of its first tag; for each tag the step since the last one, of which the low 32 bits
stay with the tag and the rest, if any, goes into a short list of carries; and for each tag the place of its
channel in a table of the run's channel numbers. So steps are 4 bytes wide and still exact for any int64
times: at 1 ps a carry needs a step of 4.29 ms, so there are at most 233 of them in a second of ordered tags.
The unused bits of steps and places are squeezed out by bitshuffle. Measured on one core for Poisson tags at
1 Mcps: 22.5 bit for the step, 2.05 bit for the place of one of four equally frequent channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from .disk import Buffer
from .errors import StoreError

CHUNK = 131072
STEP_FILTER: dict[str, Any] = dict(hdf5plugin.Bitshuffle(nelems=16384, cname="lz4"))
CHANNEL_FILTER: dict[str, Any] = dict(hdf5plugin.Bitshuffle(cname="lz4"))
NO_CARRIES: NDArray[np.int64] = np.empty((0, 2), np.int64)
_UNKNOWN = 255
_NEAR = 1024  # channel numbers up to this, of either sign, are found in a table


@dataclass(frozen=True)
class PackedTags:
    """n tags. steps: uint32[n], low words, the first one 0; places: uint8[n] in the table of channels.

    carries: int64[k, 2], the tag and the high part in ps of each step that does not fit.
    """

    begin_ps: int
    steps: NDArray[np.uint32]
    places: NDArray[np.uint8]
    carries: NDArray[np.int64]

    def times_ps(self) -> NDArray[np.int64]:
        """The times: inverse of `pack`."""
        times_ps = self.steps.astype(np.int64)
        times_ps[self.carries[:, 0]] += self.carries[:, 1]
        times_ps[:1] = self.begin_ps
        return np.cumsum(times_ps, out=times_ps)

    def crc(self) -> int:
        """CRC-32 of everything."""
        crc = zlib.crc32(self.places.data, zlib.crc32(self.steps.data))
        crc = zlib.crc32(self.carries.data, crc)
        return zlib.crc32(self.begin_ps.to_bytes(8, "little", signed=True), crc)

    def padded(self) -> PackedTags:
        """Filled up with zeros to the length of a chunk."""
        return PackedTags(self.begin_ps, _pad(self.steps), _pad(self.places), self.carries)


def _pad(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([values, np.zeros(CHUNK - values.size, values.dtype)])


def pack(times_ps: NDArray[np.int64], places: NDArray[np.uint8]) -> PackedTags:
    """Times in any order, and the places of their channels."""
    steps = np.zeros(times_ps.size, np.uint32)
    if times_ps.size == 0:
        return PackedTags(0, steps, places, NO_CARRIES)
    differences = times_ps[1:] - times_ps[:-1]  # wraps, and so does the sum in `times_ps`
    np.copyto(steps[1:], differences, casting="unsafe")  # the low word
    carries = NO_CARRIES
    if differences.size and differences.view(np.uint64).max() >> 32:
        high = (differences >> 32) << 32
        tags = np.flatnonzero(high)
        carries = np.stack([tags + 1, high[tags]], axis=1)
    return PackedTags(int(times_ps[0]), steps, places, carries)


@dataclass(frozen=True)
class EncodedChunk:
    """One chunk in its final form; `crc` is that of its `PackedTags`."""

    begin_ps: int
    steps: Buffer
    places: Buffer
    carries: NDArray[np.int64]
    crc: int


class ChunkCodec:
    """Compresses and expands whole chunks with the HDF5 filter itself, in memory. Not thread-safe."""

    def __init__(self) -> None:
        # rdcc_nbytes=0: without a chunk cache every write goes through the filter at once
        file = h5py.File(uuid4().hex, "w", driver="core", backing_store=False, rdcc_nbytes=0)
        layout = {"shape": (CHUNK,), "chunks": (CHUNK,)}
        self._steps = file.create_dataset("steps", dtype=np.uint32, **layout, **STEP_FILTER)
        self._places = file.create_dataset("places", dtype=np.uint8, **layout, **CHANNEL_FILTER)
        self._file = file

    def encode(self, tags: PackedTags) -> EncodedChunk:
        """A whole chunk, or the last one of a run (it is padded)."""
        tags = tags if tags.steps.size == CHUNK else tags.padded()
        return EncodedChunk(
            tags.begin_ps,
            _through(self._steps, tags.steps),
            _through(self._places, tags.places),
            tags.carries,
            tags.crc(),
        )

    def decode(self, chunk: EncodedChunk) -> PackedTags:
        """The chunk expanded, as long as all chunks are."""
        return PackedTags(
            chunk.begin_ps, _back(self._steps, chunk.steps), _back(self._places, chunk.places), chunk.carries
        )


def _through(dataset: h5py.Dataset, values: NDArray[Any]) -> bytes:
    dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return bytes(dataset.id.read_direct_chunk((0,))[1])


def _back(dataset: h5py.Dataset, data: Buffer) -> NDArray[Any]:
    dataset.id.write_direct_chunk((0,), data)
    return dataset[...]


class ChannelTable:
    """The channel numbers of a run in the order of their first appearance; at most 255."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self.numbers: list[int] = []
        self._near = np.full(2 * _NEAR + 3, _UNKNOWN, np.uint8)  # the ends are for all that is farther off
        for number in numbers:
            self._learn(number)

    def places(self, channels: NDArray[np.int32]) -> NDArray[np.uint8]:
        """The place of each of `channels` in `numbers`, which grows by new ones.

        Raises StoreError when there are too many.
        """
        found = np.take(self._near, channels + np.int32(_NEAR + 1), mode="clip")
        if found.size and found.max() == _UNKNOWN:
            self._look_up(channels, found)
        return found

    def channels(self, places: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Inverse of `places`."""
        return np.array(self.numbers or [0], np.int32)[places]

    def _look_up(self, channels: NDArray[np.int32], found: NDArray[np.uint8]) -> None:
        for number in np.unique(channels[found == _UNKNOWN]).tolist():
            if number not in self.numbers:
                self._learn(number)
            found[channels == number] = self.numbers.index(number)

    def _learn(self, number: int) -> None:
        if len(self.numbers) == _UNKNOWN:
            raise StoreError(
                f"channel {number}: a run holds tags of {_UNKNOWN} channels at most; record fewer of them"
            )
        if abs(number) <= _NEAR:
            self._near[number + _NEAR + 1] = len(self.numbers)
        self.numbers.append(number)
