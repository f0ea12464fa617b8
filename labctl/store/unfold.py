"""From a run file back to a journal, so that a run that was finished can go on.

The journal says again what the file says: what comes back from it is the same run. Tags are encoded anew,
except those in sealed tag files, which stay where they are when the run goes on in its own folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from labctl.timetags.block import TagBlock

from .chunkfile import TAGS_GROUP, ChunkGroup, open_tag_file
from .codec import CHUNK
from .contents import ROW_COLUMNS, Acquisition, RunContents
from .journal import Journal
from .nexus_read import load_run
from .records import Kind, to_json
from .sources import HDF5Tags, read_blocks, read_span
from .tags import BlockTable, TagEncoder, block_header

_UNBOUNDED = 1 << 62


def unfold(
    run_file: Path,
    journal: Path,
    header: Mapping[str, Any],
    *,
    keep_sealed: bool,
    without_rows_of: Sequence[str] = (),
) -> None:
    """Write a complete, durable journal at the new path `journal` that holds the run of `run_file`.

    header: what the new journal begins with. keep_sealed: refer to the sealed tag files.
    without_rows_of: sweeps whose rows are left out.
    """
    contents = load_run(run_file)
    for sweep in without_rows_of:
        contents.sweeps.pop(sweep, None)
    out = Journal(journal, segment_limit=_UNBOUNDED)
    try:
        wall_time_s = datetime.fromisoformat(contents.end_time).timestamp()
        out.append(Kind.HEADER, {"wall_time_s": wall_time_s, **header})
        for kind, fields in _records(contents):
            out.append(kind, {"wall_time_s": wall_time_s, **fields})
        _notes(contents, out)
        _tags(run_file, contents.blocks, out, _sealed_files(run_file) if keep_sealed else {})
        for item in contents.acquisitions:
            for kind, fields in _ends(item, contents.blocks):
                out.append(kind, {"wall_time_s": wall_time_s, **fields})
        out.flush(durable=True)
    finally:
        out.close()


def _records(contents: RunContents) -> Iterator[tuple[Kind, dict[str, Any]]]:
    for sweep, table in contents.sweeps.items():
        columns = {name: values.tolist() for name, values in table.columns.items()}
        units = {name: unit for name, unit in table.units.items() if name not in ROW_COLUMNS}
        for row in range(len(columns["index"])):
            values = {name: column[row] for name, column in columns.items()}
            index, attempt, time_s, wall_s = (values.pop(name) for name in ROW_COLUMNS)
            fields = {"sweep": sweep, "index": index, "attempt": attempt, "values": values, "units": units}
            yield Kind.ROW, {**fields, "bench_time_s": time_s, "wall_time_s": wall_s}
    yield from ((Kind.EVENT, event) for event in contents.events)
    yield from ((Kind.LOG, line) for line in contents.log)
    for label, snapshot in contents.snapshots.items():
        yield Kind.SNAPSHOT, {"label": label, "snapshot": snapshot}
    if contents.twin is not None:
        yield Kind.TWIN, {"twin": contents.twin}
    for key, value in contents.memos.items():
        yield Kind.MEMO, {"key": key, "value": value}
    for item in contents.acquisitions:
        fields = {"sweep": item.sweep, "index": item.index, "attempt": item.attempt, "part": item.part}
        names = {str(channel): name for channel, name in item.channels.items()}
        yield Kind.ACQUISITION_BEGIN, {**fields, "acquisition": item.id, "channels": names}


def _notes(contents: RunContents, out: Journal) -> None:
    for entry in contents.audit:
        out.note(Kind.AUDIT, to_json(tuple(vars(entry).values())))
    for name, monitor in contents.monitors.items():
        for time_s, value in zip(monitor.times_s.tolist(), monitor.values.tolist(), strict=True):
            out.note(Kind.MONITOR, to_json((name, time_s, value, monitor.unit)))


def _ends(item: Acquisition, blocks: BlockTable) -> Iterator[tuple[Kind, dict[str, Any]]]:
    if item.ended:
        count = blocks.acquisition.count(item.id)
        end = {"acquisition": item.id, "live_time_ps": item.live_time_ps, "blocks": count}
        yield Kind.ACQUISITION_END, end
    if item.discarded:
        yield Kind.DISCARD, {"acquisition": item.id, "reason": item.discarded}


def _sealed_files(run_file: Path) -> dict[int, int]:
    """Number of chunks of each sealed tag file, by its number."""
    with open_tag_file(run_file) as file:
        parts = file[TAGS_GROUP].get("parts", {})
        return {int(name.rpartition("_")[2]): ChunkGroup(parts[name]).count for name in sorted(parts)}


def _tags(run_file: Path, table: BlockTable, out: Journal, sealed: dict[int, int]) -> None:
    firsts = [0, *accumulate(table.tags)]
    with open_tag_file(run_file) as file:
        channels = getattr(ChunkGroup(file[TAGS_GROUP]), "channels", [])
    places = [(number, index) for number, count in sealed.items() for index in range(count)]
    boundary = len(places) * CHUNK
    encoder = TagEncoder(len(places), channels=channels if sealed else ())
    source = HDF5Tags(run_file)
    in_seals = [number for number, first in enumerate(firsts[:-1]) if first < boundary]
    with source.opened() as read_chunk:
        for number in in_seals:
            begin, end = firsts[number], firsts[number + 1]
            tail = read_span(read_chunk, boundary, end) if end > boundary else read_span(read_chunk, 0, 0)
            block = _block(table, number, *tail)
            done = places[begin // CHUNK : min(end, boundary) // CHUNK]
            fields = {"first": begin, "tags": end - begin, "sealed": [*(done or [(0, 0)])[0], len(done)]}
            out.append_encoded(
                Kind.TAGS, partial(_sealed_block, encoder, table.acquisition[number], block, fields), 0
            )
    others = range(len(in_seals), len(table.tags))
    for number, block in zip(others, read_blocks(source, table, firsts, others), strict=True):
        acquisition = table.acquisition[number]
        out.append_encoded(Kind.TAGS, partial(encoder.encode, acquisition, block), 12 * len(block))


def _block(table: BlockTable, number: int, times_ps: Any, channels: Any) -> TagBlock:
    begin_ps, end_ps = table.begin_ps[number], table.end_ps[number]
    return TagBlock(times_ps, channels, begin_ps, end_ps, table.gaps.get(number, ()), table.epoch[number])


def _sealed_block(
    encoder: TagEncoder, acquisition: int, block: TagBlock, fields: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """The record of a block whose chunks are sealed; `block` has only the tags behind them."""
    header, buffers = encoder.encode(acquisition, block)
    return {**header, **block_header(acquisition, block), **fields}, buffers
