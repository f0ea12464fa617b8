"""Reading a run file back, and comparing a new one with the journal that it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from labctl.timetags.block import Gap

from .chunkfile import TAGS_GROUP, ChunkGroup, open_tag_file
from .contents import Acquisition, AuditEntry, Monitor, RunContents, SweepTable
from .disk import read_hdf5
from .errors import StoreError
from .nexus import ACQUISITION_COLUMNS, BLOCK_COLUMNS, GAP_COLUMNS
from .records import to_json
from .sources import JournalTags
from .tags import BlockTable


def load_run(path: Path) -> RunContents:
    """Everything but the tags. Raises StoreError when it is not a run file."""
    try:
        with read_hdf5(path) as file:
            return _load_entry(file["entry"])
    except (OSError, KeyError) as error:
        raise StoreError(f"{path}: not a complete run file ({error})") from error


def _load_entry(entry: h5py.Group) -> RunContents:
    snapshots = entry["instrument/snapshots"]
    return RunContents(
        header=json.loads(entry["process/header/data"].asstr()[()]),
        sweeps={name: _load_table(entry[name]) for name in _texts(entry, "run/sweeps")},
        events=_load_json_list(entry["events"]),
        log=_load_json_list(entry["log"]),
        snapshots={label: json.loads(snapshots[label].asstr()[()]) for label in snapshots},
        twin=json.loads(entry["twin/truth"].asstr()[()]) if "twin" in entry else None,
        memos=dict(json.loads(text) for text in _texts(entry, "run/memos")),
        audit=_load_audit(entry["process/audit"]) if "process/audit" in entry else [],
        monitors=dict(_load_monitor(log) for log in entry.get("environment", {}).values()),
        acquisitions=_load_acquisitions(entry["tags/acquisitions"]),
        blocks=_load_blocks(entry["tags"]),
        status=entry["run/status"].asstr()[()],
        reason=entry["run/reason"].asstr()[()],
        end_time=entry["end_time"].asstr()[()],
    )


def _texts(group: h5py.Group, name: str) -> list[str]:
    """A list of texts; empty when the file is older than the list."""
    return group[name].asstr()[...].tolist() if name in group else []


def _load_table(group: h5py.Group) -> SweepTable:
    columns = {}
    for name in group.attrs["columns"]:
        dataset = group[name]
        columns[name] = dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...]
    return SweepTable(columns, {n: group[n].attrs["units"] for n in columns if "units" in group[n].attrs})


def _load_json_list(group: h5py.Group) -> list[dict[str, Any]]:
    return [json.loads(text) for text in group["json"][...]]


def _load_audit(group: h5py.Group) -> list[AuditEntry]:
    times = (group[name][...].tolist() for name in ("bench_time_s", "wall_time_s"))
    names = (_texts(group, name) for name in ("instrument", "parameter"))
    values = [json.loads(text) for text in group["value"][...]]
    return [AuditEntry(*entry) for entry in zip(*times, *names, values, strict=True)]


def _load_monitor(log: h5py.Group) -> tuple[str, Monitor]:
    monitor = Monitor(log["time"][...], log["value"][...], str(log["value"].attrs["units"]))
    return log["description"].asstr()[()], monitor


def _load_rows(group: h5py.Group, numbers: Iterable[str], mapping: str) -> list[dict[str, Any]]:
    columns = {name: group[name][...].tolist() for name in numbers if name in group}
    mappings = [{int(key): value for key, value in json.loads(text).items()} for text in group[mapping][...]]
    return [
        {**dict(zip(columns, values, strict=True)), mapping: mappings[row]}
        for row, values in enumerate(zip(*columns.values(), strict=True))
    ]


def _load_acquisitions(group: h5py.Group) -> list[Acquisition]:
    rows = _load_rows(group, ACQUISITION_COLUMNS, "channels")
    for column in ("sweep", "discarded"):
        for row, text in zip(rows, _texts(group, column), strict=False):
            row[column] = text
    return [Acquisition(**{**row, "ended": bool(row.get("ended", True))}) for row in rows]


def _load_blocks(tags: h5py.Group) -> BlockTable:
    table = BlockTable(*(tags["blocks"][name][...].tolist() for name in BLOCK_COLUMNS))
    gaps: dict[int, tuple[Gap, ...]] = {}
    for row in _load_rows(tags["gaps"], GAP_COLUMNS, "missed"):
        number = row.pop("block")
        gaps[number] = (*gaps.get(number, ()), Gap(**row))
    table.gaps = gaps
    return table


def verify_run(path: Path, contents: RunContents, tags: JournalTags) -> None:
    """Read the file as any reader would and compare with the journal's contents, tags by their checksums.

    Raises StoreError when anything differs. Sealed tag files were verified when they were sealed.
    """
    found = load_run(path)
    _expect(path, "sweeps", list(found.sweeps), list(contents.sweeps))
    for name, table in contents.sweeps.items():
        _verify_table(path, name, found.sweeps[name], table)
    for part in ("header", "events", "log", "twin", "memos"):  # as JSON, where NaN equals NaN
        _expect(path, part, to_json(getattr(found, part)), to_json(getattr(contents, part)))
    for label, snapshot in contents.snapshots.items():
        _expect(path, f"snapshot {label}", to_json(found.snapshots[label]), to_json(snapshot))
    _expect(path, "audit", *(to_json([vars(entry) for entry in run.audit]) for run in (found, contents)))
    for name, monitor in contents.monitors.items():
        _expect(path, f"monitor {name}", to_json(asdict(found.monitors[name])), to_json(asdict(monitor)))
    _expect(path, "acquisitions", found.acquisitions, contents.acquisitions)
    _expect(path, "tag blocks", found.blocks, contents.blocks)
    with open_tag_file(path) as file:
        _verify_tags(path, file[TAGS_GROUP], contents, tags)


def verify_tag_file(path: Path) -> None:
    """Read a sealed tag file and compare with the checksums of what was to be written. Raises StoreError."""
    with open_tag_file(path) as file:
        _expect(path, "tags", ChunkGroup(file[TAGS_GROUP]).verify(), "")


def _verify_table(path: Path, sweep: str, found: SweepTable, wanted: SweepTable) -> None:
    _expect(path, f"columns of {sweep}", list(found.columns), list(wanted.columns))
    for name, values in wanted.columns.items():
        same = np.array_equal(found.columns[name], values, equal_nan=values.dtype.kind == "f")
        _expect(path, f"column {name} of {sweep}", same, True)


def _verify_tags(path: Path, group: h5py.Group, contents: RunContents, tags: JournalTags) -> None:
    own = ChunkGroup(group)
    sealed = sum(ChunkGroup(part).total for part in group.get("parts", {}).values())
    _expect(path, "number of tags", own.total + sealed, contents.blocks.total)
    _expect(path, "channel numbers", own.channels, tags.channels)
    spoilt = own.verify()
    _expect(path, spoilt, spoilt, "")


def _expect(path: Path, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise StoreError(f"{path}: {what}: the new file differs from the journal, kept; check the disk")
