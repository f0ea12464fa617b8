"""The group `/entry/tags` of a run file, or of a sealed tag file beside it: chunks to HDF5 and back.

`time_step` has the low 32 bits of each step and restarts with 0 every CHUNK tags, where `chunk_begin_ps` has
the time; `carry` lists the tags whose step needs more; `channel` is a place in `channel_number`. Files of
schema 1 have steps and channel numbers as they are, and the first time as the first step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .codec import CHANNEL_FILTER, CHUNK, STEP_FILTER, ChannelTable, EncodedChunk, PackedTags
from .disk import read_hdf5
from .errors import StoreError
from .tags import Tags

TAGS_GROUP = "entry/tags"
_TAG_FILE = re.compile(r"tags-(\d{4,})\.h5")


def tag_file(folder: Path, number: int) -> Path:
    """The sealed tag file `number`, counted from 1."""
    return folder / f"tags-{number:04d}.h5"


def tag_files(folder: Path) -> dict[int, Path]:
    """The sealed tag files of a folder by number."""
    found = {int(match[1]): path for path in folder.iterdir() if (match := _TAG_FILE.fullmatch(path.name))}
    return dict(sorted(found.items()))


def write_chunks(
    group: h5py.Group, chunks: Iterable[EncodedChunk], total: int, channels: Sequence[int]
) -> None:
    """Put chunks that hold `total` tags into an empty group."""
    layout = {"shape": (total,), "maxshape": (None,), "chunks": (CHUNK,)}
    steps = group.create_dataset("time_step", dtype=np.uint32, **layout, **STEP_FILTER)
    places = group.create_dataset("channel", dtype=np.uint8, **layout, **CHANNEL_FILTER)
    steps.attrs.update({"units": "ps", "long_name": f"time since the last tag; restarts every {CHUNK} tags"})
    places.attrs["long_name"] = "place of the channel in channel_number"
    begins_ps, checksums, carries = [], [], [np.empty((0, 2), np.int64)]
    for number, chunk in enumerate(chunks):
        steps.id.write_direct_chunk((number * CHUNK,), chunk.steps)
        places.id.write_direct_chunk((number * CHUNK,), chunk.places)
        begins_ps.append(chunk.begin_ps)
        checksums.append(chunk.crc)
        if chunk.carries.size:
            carries.append(np.add(chunk.carries, [number * CHUNK, 0]))
    group.create_dataset("channel_number", data=np.array(channels, np.int32))
    group.create_dataset("chunk_begin_ps", data=np.array(begins_ps, np.int64)).attrs["units"] = "ps"
    group.create_dataset("chunk_crc32", data=np.array(checksums, np.uint32))
    carry = group.create_dataset("carry", data=np.concatenate(carries))
    carry.attrs["long_name"] = "tag, and what its step in ps has beyond 32 bits"


class ChunkGroup:
    """Reads the chunks of one group."""

    def __init__(self, group: h5py.Group) -> None:
        self._steps, self._places = group["time_step"], group["channel"]
        self._old = "chunk_begin_ps" not in group
        self.total = int(self._steps.size)
        self.count = -(-self.total // CHUNK)
        self.checksums = group["chunk_crc32"][...]
        if not self._old:
            self.channels: list[int] = group["channel_number"][...].tolist()
            self._table = ChannelTable(self.channels)
            self._begins_ps = group["chunk_begin_ps"][...]
            self._carries = group["carry"][...]

    def packed(self, number: int) -> PackedTags:
        """The tags of chunk `number`, without padding."""
        part = slice(number * CHUNK, min((number + 1) * CHUNK, self.total))
        first, last = np.searchsorted(self._carries[:, 0], [part.start, part.stop])
        carries = np.subtract(self._carries[first:last], [part.start, 0])
        return PackedTags(int(self._begins_ps[number]), self._steps[part], self._places[part], carries)

    def tags(self, number: int) -> Tags:
        """Times and channels of chunk `number`. Raises StoreError when they are not what was written."""
        if self._old:
            part = slice(number * CHUNK, (number + 1) * CHUNK)
            return np.cumsum(self._steps[part], dtype=np.int64), self._places[part]
        packed = self.packed(number)
        if packed.padded().crc() != self.checksums[number]:
            file = self._steps.file.filename
            raise StoreError(f"{file}: chunk {number} of the tags is spoilt; take the file from a copy")
        return packed.times_ps(), self._table.channels(packed.places)

    def verify(self) -> str:
        """Read every chunk; "" or what differs from what was written."""
        for number in range(self.count):
            if self.packed(number).padded().crc() != self.checksums[number]:
                return f"checksum of tags chunk {number}"
        return "" if self.count == self.checksums.size else "chunks of tags"


def open_tag_file(path: Path) -> Any:
    """A run file or sealed tag file, to read. Raises StoreError when it is missing or broken."""
    try:
        return read_hdf5(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error}); it belongs to the run, put it back") from error
