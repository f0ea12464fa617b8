"""The finished run file: a NeXus tree with a default plot, written from a run's contents.

`/entry/<sweep>` (NXdata) has the rows as they were taken, `/entry/plot` the default plot: the last
attempt of each point, without reference rows, sorted along the axis. `/entry/environment/<name>` (NXlog) are
the monitors, `/entry/process/audit` every parameter that was set. Tags are as `chunkfile` says; those of a
long run are in sealed tag files, linked under `/entry/tags/parts`. Structured records (events, snapshots,
the header) are JSON text. NeXus manual, https://manual.nexusformat.org: classes NXentry, NXdata, NXlog,
NXprocess, NXcollection.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import disk
from .chunkfile import TAGS_GROUP, tag_file, write_chunks
from .codec import CHUNK
from .contents import ROW_COLUMNS, AuditEntry, Monitor, RunContents, SweepTable
from .records import clean, to_json
from .sources import JournalTags
from .tags import BlockTable

TEXT = h5py.string_dtype("utf-8")
RESERVED = (
    *("plot", "instrument", "tags", "process", "events", "log", "twin", "run", "environment"),
    *("title", "start_time", "end_time", "entry_identifier_uuid", "program_name", "notes"),
)
ACQUISITION_COLUMNS = ("id", "index", "attempt", "begin_ps", "end_ps", "live_time_ps", "part", "ended")
GAP_COLUMNS = ("block", "begin_ps", "end_ps")
BLOCK_COLUMNS = ("acquisition", "begin_ps", "end_ps", "epoch", "tags")


def write_run(path: Path, contents: RunContents, tags: JournalTags, status: str) -> None:
    """Write the whole file; an existing one is replaced. Raises OSError or RuntimeError from HDF5."""
    with disk.new_hdf5(path) as file:
        entry = new_entry(file)
        _write_entry(entry, contents, status)
        _write_process(entry, contents)
        _write_sweeps(entry, contents)
        _write_instrument(entry, contents)
        if contents.monitors:
            _write_environment(_group(entry, "environment", "NXcollection"), contents.monitors)
        _text_list(_group(entry, "events", "NXcollection"), "json", map(to_json, contents.events))
        _text_list(_group(entry, "log", "NXcollection"), "json", map(to_json, contents.log))
        if contents.twin is not None:
            _text(_group(entry, "twin", "NXcollection"), "truth", to_json(contents.twin))
        group = _group(entry, "tags", "NXcollection")
        sealed = sum(tags.sealed.values()) * CHUNK
        write_chunks(group, tags.encoded(), contents.blocks.total - sealed, tags.channels)
        _link_parts(group, tags)
        _write_blocks(group, contents.blocks)
        _write_acquisitions(_group(group, "acquisitions", "NXcollection"), contents)


def write_tag_file(path: Path, tags: JournalTags) -> None:
    """Write the whole chunks of a journal that are in no sealed tag file to one."""
    with disk.new_hdf5(path) as file:
        group = _group(new_entry(file), "tags", "NXcollection")
        chunks = (place.read() for place in tags.unsealed)
        write_chunks(group, chunks, len(tags.unsealed) * CHUNK, tags.channels)


def new_entry(file: h5py.File) -> h5py.Group:
    """The entry of a new file."""
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "labctl"})
    return _group(file, "entry", "NXentry")


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _text(group: h5py.Group, name: str, text: str) -> h5py.Dataset:
    return group.create_dataset(name, data=clean(text), dtype=TEXT)


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
    _text_list(run, "memos", (to_json(item) for item in contents.memos.items()))


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
    _write_audit(_group(process, "audit", "NXcollection"), contents.audit)


def _write_audit(group: h5py.Group, audit: list[AuditEntry]) -> None:
    for name in ("bench_time_s", "wall_time_s"):
        data = np.array([getattr(entry, name) for entry in audit], np.float64)
        group.create_dataset(name, data=data).attrs["units"] = "s"
    for name in ("instrument", "parameter"):
        _text_list(group, name, (getattr(entry, name) for entry in audit))
    _text_list(group, "value", (to_json(entry.value) for entry in audit))


def _write_environment(group: h5py.Group, monitors: dict[str, Monitor]) -> None:
    for name, monitor in monitors.items():
        node = name.replace(".", "__")  # NeXus names have no dots
        while node in group:
            node += "_"
        log = _group(group, node, "NXlog")
        _text(log, "description", name)
        times = log.create_dataset("time", data=monitor.times_s)
        times.attrs.update({"units": "s", "long_name": "time of the bench"})
        values = log.create_dataset("value", data=monitor.values)
        values.attrs["units"] = clean(monitor.unit)


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
        unit = clean(units.get(name, ""))
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
    group.create_dataset(name, data=np.array([clean(text) for text in texts], dtype=object), dtype=TEXT)


def _write_table(group: h5py.Group, rows: list[dict[str, Any]], numbers: Iterable[str], mapping: str) -> None:
    """One integer column for each of `numbers`, and the column `mapping` as JSON text."""
    for column in numbers:
        group.create_dataset(column, data=np.array([row[column] for row in rows], dtype=np.int64))
    _text_list(group, mapping, (to_json(row[mapping]) for row in rows))


def _write_acquisitions(group: h5py.Group, contents: RunContents) -> None:
    _write_table(group, [vars(item) for item in contents.acquisitions], ACQUISITION_COLUMNS, "channels")
    _text_list(group, "sweep", (item.sweep for item in contents.acquisitions))
    _text_list(group, "discarded", (item.discarded for item in contents.acquisitions))


def _link_parts(group: h5py.Group, tags: JournalTags) -> None:
    if not tags.sealed:
        return
    parts = _group(group, "parts", "NXcollection")
    for number in tags.sealed:
        # a link to a file that is missing is an error; a virtual dataset would read zeros
        name = tag_file(tags.path.parent, number).name
        parts[f"part_{number:04d}"] = h5py.ExternalLink(name, TAGS_GROUP)


def _write_blocks(group: h5py.Group, blocks: BlockTable) -> None:
    table = _group(group, "blocks", "NXcollection")
    for name in BLOCK_COLUMNS:
        table.create_dataset(name, data=np.array(getattr(blocks, name), dtype=np.int64))
    gaps = [{"block": number, **vars(gap)} for number, items in blocks.gaps.items() for gap in items]
    _write_table(_group(group, "gaps", "NXcollection"), gaps, GAP_COLUMNS, "missed")
