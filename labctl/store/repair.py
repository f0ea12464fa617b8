"""A damaged journal, rewritten without the damage.

Every readable record is kept. The tags of a block are in its own record or, from an earlier block's point of
view, in the chunk that a later record completes; a block is kept when all its tags are somewhere. The damaged
segments stay beside the run as `*.damaged`. The repaired journal gets its place in steps that can be taken
up again after a crash, by `finish_repair`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labctl.timetags.block import TagBlock

from . import disk
from .codec import CHUNK, ChannelTable
from .errors import StoreError
from .journal import Journal
from .records import Kind, Record, read_journal, segments
from .sources import ChunkReader, Place, places_of, read_span
from .tags import TagEncoder, gap_from_json, rest_from_bytes

_REPAIRED = "repaired"
_UNBOUNDED = 1 << 62


def repair(journal: Path) -> None:
    """Replace a damaged journal by what is readable of it. Raises StoreError; then it is as it was."""
    target = journal.with_name(f"{journal.name}.{_REPAIRED}")
    unfinished = target.with_name(f"{target.name}.tmp")
    disk.remove(unfinished)
    out = Journal(unfinished, segment_limit=_UNBOUNDED)
    try:
        _copy(journal, out)
        out.flush(durable=True)
    finally:
        out.close()
    disk.rename(unfinished, target)
    disk.sync_folder(target.parent)
    finish_repair(journal)


def finish_repair(journal: Path) -> None:
    """Put a repaired journal into its place; nothing when there is none."""
    repaired = journal.with_name(f"{journal.name}.{_REPAIRED}")
    if not repaired.exists():
        return
    for segment in segments(journal)[1:]:
        disk.rename(segment, segment.with_name(f"{segment.name}.damaged"))
    damaged = journal.with_name(f"{journal.name}.damaged")
    disk.keep_as(journal, damaged)
    disk.rename(repaired, journal)
    disk.sync_folder(journal.parent)


def _copy(journal: Path, out: Journal) -> None:
    chunks, damages = _survey(journal)
    encoder, begun, lost, told = TagEncoder(), set(), 0, False
    with chunks:
        for record in read_journal(journal):
            number = record.header.get("acquisition", -1)
            if record.kind is Kind.TAGS and number not in begun:
                out.append(Kind.ACQUISITION_BEGIN, _unknown_acquisition(record))
            if record.kind in (Kind.TAGS, Kind.ACQUISITION_BEGIN):
                begun.add(number)
            if record.kind is Kind.END:  # the end stays the last record
                out.append(Kind.EVENT, _damage_event(record, damages, lost))
                told = True
            if record.kind is not Kind.TAGS:
                out.append(record.kind, record.header)
            elif (block := _block(record, chunks)) is None:
                lost += 1
            else:
                out.append_encoded(Kind.TAGS, partial(encoder.encode, number, block), 12 * len(block))
            last = record
    if not told:
        out.append(Kind.EVENT, _damage_event(last, damages, lost))


def _survey(journal: Path) -> tuple[ChunkReader, list[str]]:
    """All chunks that are left, by their number in the stream, and what is spoilt."""
    places: dict[int, Place] = {}
    channels: list[int] = []
    reader = read_journal(journal)
    for record in reader:
        if record.kind is Kind.TAGS:
            first = record.header["first"] // CHUNK
            places.update(enumerate(places_of(record)[0], first))
            channels = record.header["channels"]
    return ChunkReader(journal.parent, places, channels), [str(damage) for damage in reader.end.damages]


def _block(record: Record, chunks: ChunkReader) -> TagBlock | None:
    """The block of a TAGS record, None when some of its tags are lost."""
    header = record.header
    first, last = header["first"], header["first"] + header["tags"]
    try:
        times_ps, channels = read_span(chunks.read, first, last - header["rest"][0])
    except (KeyError, StoreError, OSError):
        return None
    rest = rest_from_bytes(header["rest"], record.data[places_of(record)[1] :])
    return TagBlock(
        np.concatenate([times_ps, rest.times_ps()]),
        np.concatenate([channels, ChannelTable(header["channels"]).channels(rest.places)]),
        header["begin_ps"],
        header["end_ps"],
        tuple(gap_from_json(gap) for gap in header["gaps"]),
        header["epoch"],
    )


def _unknown_acquisition(record: Record) -> dict[str, Any]:
    """Stands for the lost beginning of an acquisition whose tags are left."""
    number, channels = record.header["acquisition"], record.header["channels"]
    names = {str(channel): str(channel) for channel in channels}
    place = {"sweep": "unknown", "index": number, "attempt": 0, "part": 0}
    return {**place, "acquisition": number, "channels": names, "bench_time_s": 0.0}


def _damage_event(record: Record, damages: list[str], lost_blocks: int) -> dict[str, Any]:
    times = {key: record.header.get(key, 0.0) for key in ("bench_time_s", "wall_time_s")}
    return {"kind": "damage", **times, "damages": damages, "lost_blocks": lost_blocks}
