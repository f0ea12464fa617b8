"""What the catalogue knows of one run, read from its folder without its rows and tags."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .disk import read_hdf5
from .errors import StoreError
from .folder import JOURNAL, RUN_FILE, is_locked
from .labels import Labels, read_labels

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True)
class RunSummary:
    """One line of the catalogue.

    name: folder under the root, `YYYY-MM-DD/HHMMSS_<experiment>_<6 hex>`. status: as `RunData.status`, or
    "unreadable" with the reason. started: seconds since 1970, UTC. duration_s: None while there is no end.
    parameters are SI, `units` of those that have one. notes: remarks during the run, then later ones.
    """

    name: str
    experiment: str
    status: str
    reason: str = ""
    started: float = 0.0
    duration_s: float | None = None
    bench: str = ""
    sample: str = ""
    position: str = ""
    operator: str = ""
    title: str = ""
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] | None = None
    units: dict[str, str] | None = None
    notes: tuple[str, ...] = ()
    size_bytes: int = 0


def summarise(root: Path, name: str) -> RunSummary:
    """The summary of the run in the folder `name` under `root`; one that cannot be read says so in it."""
    folder = root / name
    try:
        found = _summarise_run(folder, name)
    except (StoreError, OSError, KeyError, ValueError, TypeError) as error:
        found = RunSummary(name, _experiment_in(folder.name), "unreadable", str(error), _time_of(folder))
    try:
        labels = read_labels(folder)
    except StoreError as error:
        labels, found = Labels(), replace(found, notes=(*found.notes, str(error)))
    notes = (*found.notes, *(note.text for note in labels.notes))
    return replace(
        found, tags=tuple(labels.tags(found.tags)), notes=notes, size_bytes=_size_bytes(folder)
    )


def _summarise_run(folder: Path, name: str) -> RunSummary:
    if (folder / JOURNAL).exists():
        return _of_header(name, _first_record(folder), "running" if is_locked(folder) else "crashed")
    with read_hdf5(folder / RUN_FILE) as file:
        return _of_file(name, file["entry"])


def _first_record(folder: Path) -> dict[str, Any]:
    """The header of a run that is not finished; nothing else of the journal is read."""
    from .records import read_journal

    head = next(iter(read_journal(folder / JOURNAL)), None)
    if head is None or "experiment" not in head.header:
        raise StoreError(f"{folder / JOURNAL}: the journal has no header")
    return head.header


def _of_file(name: str, entry: h5py.Group) -> RunSummary:
    header = json.loads(entry["process/header/data"].asstr()[()])
    end = datetime.fromisoformat(entry["end_time"].asstr()[()])
    found = _of_header(name, header, entry["run/status"].asstr()[()])
    notes = tuple(_notes_among(entry["events/json"].asstr()[...]))
    return replace(
        found, reason=entry["run/reason"].asstr()[()], duration_s=end.timestamp() - found.started, notes=notes
    )


def _notes_among(events: Iterable[str]) -> Iterable[str]:
    """The texts of those events that are notes; the others are not even parsed."""
    for text in events:
        if '"note"' in text and (event := json.loads(text)).get("kind") == "note":
            yield str(event.get("text", ""))


def _of_header(name: str, header: dict[str, Any], status: str) -> RunSummary:
    return RunSummary(
        name,
        str(header["experiment"]),
        status,
        started=datetime.fromisoformat(header["start_time"]).timestamp(),
        bench=str(header.get("bench") or ""),
        sample=str(header.get("sample") or ""),
        position=str(header.get("position") or ""),
        operator=str(header.get("operator") or ""),
        title=str(header.get("title") or ""),
        tags=tuple(map(str, header.get("tags") or ())),
        parameters=dict(header.get("parameters") or {}),
        units=dict(header.get("parameter_units") or {}),
    )


def _experiment_in(folder: str) -> str:
    """The name of the experiment in `HHMMSS_<experiment>_<6 hex>`."""
    return folder.partition("_")[2].rpartition("_")[0]


def _time_of(folder: Path) -> float:
    try:
        text = f"{folder.parent.name} {folder.name[:6]}"
        return datetime.strptime(text, "%Y-%m-%d %H%M%S").timestamp()
    except ValueError:
        return 0.0


def _size_bytes(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return 0
