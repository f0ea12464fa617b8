"""The finished run file: a NeXus tree with a default plot, written from a run's contents and read back.

`/entry/<sweep>` (NXdata) has the rows as they were taken, `/entry/plot` the default plot: the last
attempt of each point, without reference rows, sorted along the axis. Tags are two long datasets,
`/entry/tags/time_step` and `channel`: the times of chunk k are the cumulative sum of
`time_step[k*N:(k+1)*N]`, N being the chunk length. Structured records (events, snapshots, the header)
are JSON text. NeXus manual, https://manual.nexusformat.org: classes NXentry, NXdata, NXprocess, NXcollection.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import Gap

from .codec import CHUNK, FILTER
from .contents import ROW_COLUMNS, Acquisition, RunContents, SweepTable
from .errors import StoreError
from .journal import to_json
from .tags import BlockTable, EncodedChunk

TEXT = h5py.string_dtype("utf-8")
RESERVED = (
    *("plot", "instrument", "tags", "process", "events", "log", "twin", "run"),
    *("title", "start_time", "end_time", "entry_identifier_uuid", "program_name", "notes"),
)
ACQUISITION_COLUMNS = ("id", "index", "attempt", "begin_ps", "end_ps", "live_time_ps")
GAP_COLUMNS = ("block", "begin_ps", "end_ps")
BLOCK_COLUMNS = ("acquisition", "begin_ps", "end_ps", "epoch", "tags")


def write_run(path: Path, contents: RunContents, chunks: Iterable[EncodedChunk], status: str) -> None:
    """Write the whole file; an existing one is replaced. Raises OSError or RuntimeError from HDF5."""
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "labctl"})
        entry = _group(file, "entry", "NXentry")
        _write_entry(entry, contents, status)
        _write_process(entry, contents)
        _write_sweeps(entry, contents)
        _write_instrument(entry, contents)
        _text_list(_group(entry, "events", "NXcollection"), "json", map(to_json, contents.events))
        _text_list(_group(entry, "log", "NXcollection"), "json", map(to_json, contents.log))
        if contents.twin is not None:
            _text(_group(entry, "twin", "NXcollection"), "truth", to_json(contents.twin))
        tags = _group(entry, "tags", "NXcollection")
        _write_tags(tags, contents.blocks, chunks)
        table = _group(tags, "acquisitions", "NXcollection")
        _write_table(table, [vars(item) for item in contents.acquisitions], ACQUISITION_COLUMNS, "channels")
        _text_list(table, "sweep", (item.sweep for item in contents.acquisitions))


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _clean(text: str) -> str:
    # HDF5 text ends at a NUL, and UTF-8 has no lone surrogates
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _text(group: h5py.Group, name: str, text: str) -> h5py.Dataset:
    return group.create_dataset(name, data=_clean(text), dtype=TEXT)


def _write_entry(entry: h5py.Group, contents: RunContents, status: str) -> None:
    header = contents.header
    _text(entry, "title", str(header.get("title") or header["experiment"]))
    _text(entry, "start_time", header["start_time"])
    _text(entry, "end_time", contents.end_time)
    _text(entry, "entry_identifier_uuid", header["uuid"])
    _text(entry, "program_name", "labctl").attrs["version"] = header["versions"]["labctl"]
    run = _group(entry, "run", "NXcollection")
    _text(run, "status", status)
    _text(run, "reason", contents.reason)
    run.create_dataset("schema_version", data=header["schema_version"])
    _text_list(run, "sweeps", contents.sweeps)


def _write_process(entry: h5py.Group, contents: RunContents) -> None:
    header = contents.header
    process = _group(entry, "process", "NXprocess")
    _text(process, "program", "labctl")
    _text(process, "version", header["versions"]["labctl"])
    _text(process, "date", header["start_time"])
    _note(process, "header", "application/json", to_json(header))
    for name, value in header.items():
        if isinstance(value, str) and "\n" in value:  # whole files, to read as they were
            _note(process, f"file_{name}", "text/plain", value)


def _note(group: h5py.Group, name: str, media_type: str, text: str) -> None:
    note = _group(group, name, "NXnote")
    _text(note, "type", media_type)
    _text(note, "data", text)


def _write_sweeps(entry: h5py.Group, contents: RunContents) -> None:
    wanted = contents.header.get("default_plot") or {}
    for name, table in contents.sweeps.items():
        plot = wanted if wanted.get("sweep") == name else {}
        signal, axis = _signal_and_axis(table, plot)
        group = _group(entry, name, "NXdata")
        _write_columns(group, table.columns, table.units, signal, axis)
        if plot and axis == plot.get("axis") and signal == plot.get("signal"):
            _write_plot(entry, contents.header["experiment"], table, plot)
    names = list(contents.sweeps)
    if names:
        main = wanted.get("sweep")
        entry.attrs["default"] = "plot" if "plot" in entry else main if main in names else names[0]


def _signal_and_axis(table: SweepTable, plot: dict[str, str]) -> tuple[str, str]:
    numeric = [name for name, values in table.columns.items() if values.dtype.kind in "if"]
    first = next((name for name in numeric if name not in ROW_COLUMNS), "time")
    signal, axis = plot.get("signal", first), plot.get("axis", "index")
    return (signal if signal in numeric else first), (axis if axis in numeric else "index")


def _write_columns(
    group: h5py.Group, columns: dict[str, NDArray[Any]], units: dict[str, str], signal: str, axis: str
) -> None:
    group.attrs["columns"] = np.array(list(columns), dtype=TEXT)
    group.attrs["signal"] = signal
    if axis != signal:
        group.attrs["axes"] = [axis]
        group.attrs[f"{axis}_indices"] = [0]
    for name, values in columns.items():
        dtype = TEXT if values.dtype == object else values.dtype
        dataset = group.create_dataset(name, data=values, dtype=dtype)
        unit = _clean(units.get(name, ""))
        dataset.attrs["long_name"] = f"{name.replace('_', ' ')} ({unit})" if unit else name.replace("_", " ")
        if unit:
            dataset.attrs["units"] = unit


def _write_plot(entry: h5py.Group, title: str, table: SweepTable, plot: dict[str, str]) -> None:
    axis, signal, errors = plot["axis"], plot["signal"], plot.get("errors", "")
    chosen = _plotted_rows(table, axis)
    names = {axis: axis, signal: signal} | ({errors: f"{signal}_errors"} if errors in table.columns else {})
    columns = {new: table.columns[old][chosen] for old, new in names.items()}
    units = {new: table.units.get(old, table.units.get(signal, "")) for old, new in names.items()}
    group = _group(entry, "plot", "NXdata")
    _write_columns(group, columns, units, signal, axis)
    _text(group, "title", title)


def _plotted_rows(table: SweepTable, axis: str) -> NDArray[np.intp]:
    """Row numbers of the last attempt of each point that is no reference, sorted along the axis."""
    reference = table.columns.get("reference")
    rows = np.flatnonzero(~(reference == 1)) if reference is not None else np.arange(table.columns[axis].size)
    last = {int(table.columns["index"][row]): int(row) for row in rows}
    chosen = np.fromiter(last.values(), np.intp, len(last))
    return chosen[np.argsort(table.columns[axis][chosen], kind="stable")]


def _write_instrument(entry: h5py.Group, contents: RunContents) -> None:
    instrument = _group(entry, "instrument", "NXinstrument")
    if contents.acquisitions:
        tagger = _group(instrument, "tagger", "NXdetector")
        _text(tagger, "description", "time tagger; its tags are in /entry/tags")
    snapshots = _group(instrument, "snapshots", "NXcollection")
    for label, snapshot in contents.snapshots.items():
        _text(snapshots, label, to_json(snapshot))


def _text_list(group: h5py.Group, name: str, texts: Iterable[str]) -> None:
    group.create_dataset(name, data=np.array(list(texts), dtype=object), dtype=TEXT)


def _write_table(group: h5py.Group, rows: list[dict[str, Any]], numbers: Iterable[str], mapping: str) -> None:
    """One integer column for each of `numbers`, and the column `mapping` as JSON text."""
    for column in numbers:
        group.create_dataset(column, data=np.array([row[column] for row in rows], dtype=np.int64))
    _text_list(group, mapping, (to_json(row[mapping]) for row in rows))


def _load_table_rows(group: h5py.Group, numbers: Iterable[str], mapping: str) -> list[dict[str, Any]]:
    columns = {name: group[name][...].tolist() for name in numbers}
    mappings = [{int(key): value for key, value in json.loads(text).items()} for text in group[mapping][...]]
    return [
        {**dict(zip(columns, values, strict=True)), mapping: mappings[row]}
        for row, values in enumerate(zip(*columns.values(), strict=True))
    ]


def _write_tags(group: h5py.Group, blocks: BlockTable, chunks: Iterable[EncodedChunk]) -> None:
    layout = {"shape": (blocks.total,), "maxshape": (None,), "chunks": (CHUNK,)}
    steps = group.create_dataset("time_step", dtype=np.int64, **layout, **FILTER)
    channels = group.create_dataset("channel", dtype=np.int32, **layout, **FILTER)
    steps.attrs.update({"units": "ps", "long_name": f"time since the last tag; restarts every {CHUNK} tags"})
    checksums = []
    for number, chunk in enumerate(chunks):
        steps.id.write_direct_chunk((number * CHUNK,), chunk.steps)
        channels.id.write_direct_chunk((number * CHUNK,), chunk.channels)
        checksums.append(chunk.crc)
    group.create_dataset("chunk_crc32", data=np.array(checksums, dtype=np.uint32))
    table = _group(group, "blocks", "NXcollection")
    for name in BLOCK_COLUMNS:
        table.create_dataset(name, data=np.array(getattr(blocks, name), dtype=np.int64))
    gaps = [{"block": number, **vars(gap)} for number, items in blocks.gaps.items() for gap in items]
    _write_table(_group(group, "gaps", "NXcollection"), gaps, GAP_COLUMNS, "missed")


def verify_run(path: Path, contents: RunContents) -> None:
    """Read the file as any reader would and compare with the journal's contents, tags by their checksums.

    Raises StoreError when anything differs.
    """
    found = load_run(path)
    _expect(path, "sweeps", list(found.sweeps), list(contents.sweeps))
    for name, table in contents.sweeps.items():
        _verify_table(path, name, found.sweeps[name], table)
    for part in ("header", "events", "log", "twin"):  # as JSON, where NaN equals NaN
        _expect(path, part, to_json(getattr(found, part)), to_json(getattr(contents, part)))
    for label, snapshot in contents.snapshots.items():
        _expect(path, f"snapshot {label}", to_json(found.snapshots[label]), to_json(snapshot))
    _expect(path, "acquisitions", found.acquisitions, contents.acquisitions)
    _expect(path, "tag blocks", found.blocks, contents.blocks)
    with h5py.File(path, "r") as file:
        _verify_tags(path, file["entry/tags"], contents.blocks.total)


def _verify_table(path: Path, sweep: str, found: SweepTable, wanted: SweepTable) -> None:
    _expect(path, f"columns of {sweep}", list(found.columns), list(wanted.columns))
    for name, values in wanted.columns.items():
        same = np.array_equal(found.columns[name], values, equal_nan=values.dtype.kind == "f")
        _expect(path, f"column {name} of {sweep}", same, True)


def _verify_tags(path: Path, tags: h5py.Group, total: int) -> None:
    steps, channels, checksums = tags["time_step"], tags["channel"], tags["chunk_crc32"][...]
    _expect(path, "tags", steps.size, total)
    _expect(path, "chunks of tags", checksums.size, -(-total // CHUNK))
    step_part, channel_part = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int32)
    for number, crc in enumerate(checksums):
        size = min(CHUNK, total - number * CHUNK)
        part = slice(number * CHUNK, number * CHUNK + size)
        steps.read_direct(step_part, np.s_[part], np.s_[:size])
        channels.read_direct(channel_part, np.s_[part], np.s_[:size])
        step_part[size:], channel_part[size:] = 0, 0
        found = zlib.crc32(channel_part.data, zlib.crc32(step_part.data))
        _expect(path, f"checksum of tags chunk {number}", found, int(crc))


def _expect(path: Path, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise StoreError(f"{path}: {what}: the new file differs from the journal, kept; check the disk")


def load_run(path: Path) -> RunContents:
    """Everything but the tags. Raises StoreError when it is not a run file."""
    try:
        with h5py.File(path, "r") as file:
            return _load_entry(file["entry"])
    except (OSError, KeyError) as error:
        raise StoreError(f"{path}: not a complete run file ({error})") from error


def _load_entry(entry: h5py.Group) -> RunContents:
    snapshots = entry["instrument/snapshots"]
    return RunContents(
        header=json.loads(entry["process/header/data"].asstr()[()]),
        sweeps=_load_sweeps(entry),
        events=_load_json_list(entry["events"]),
        log=_load_json_list(entry["log"]),
        snapshots={label: json.loads(snapshots[label].asstr()[()]) for label in snapshots},
        twin=json.loads(entry["twin/truth"].asstr()[()]) if "twin" in entry else None,
        acquisitions=_load_acquisitions(entry["tags/acquisitions"]),
        blocks=_load_blocks(entry["tags"]),
        status=entry["run/status"].asstr()[()],
        reason=entry["run/reason"].asstr()[()],
        end_time=entry["end_time"].asstr()[()],
    )


def _load_sweeps(entry: h5py.Group) -> dict[str, SweepTable]:
    return {name: _load_table(entry[name]) for name in entry["run/sweeps"].asstr()[...]}


def _load_table(group: h5py.Group) -> SweepTable:
    columns = {}
    for name in group.attrs["columns"]:
        dataset = group[name]
        columns[name] = dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...]
    return SweepTable(columns, {n: group[n].attrs["units"] for n in columns if "units" in group[n].attrs})


def _load_json_list(group: h5py.Group) -> list[dict[str, Any]]:
    return [json.loads(text) for text in group["json"][...]]


def _load_acquisitions(group: h5py.Group) -> list[Acquisition]:
    rows = _load_table_rows(group, ACQUISITION_COLUMNS, "channels")
    sweeps = group["sweep"].asstr()[...]
    return [Acquisition(**row, sweep=sweep) for row, sweep in zip(rows, sweeps, strict=True)]


def _load_blocks(tags: h5py.Group) -> BlockTable:
    table = BlockTable(*(tags["blocks"][name][...].tolist() for name in BLOCK_COLUMNS))
    gaps: dict[int, tuple[Gap, ...]] = {}
    for row in _load_table_rows(tags["gaps"], GAP_COLUMNS, "missed"):
        number = row.pop("block")
        gaps[number] = (*gaps.get(number, ()), Gap(**row))
    table.gaps = gaps
    return table
