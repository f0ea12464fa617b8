"""Finished runs with a given beginning."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py

from labctl.store import RunWriter
from labctl.store.nexus import TEXT


def write_run(
    root: Path,
    experiment: str = "hbt",
    *,
    started: str = "",
    status: str = "success",
    note: str = "",
    **header: Any,
) -> Path:
    """The folder of a run that began at `started` (local time), now if left out."""
    with RunWriter.create(root, experiment, header) as writer:
        writer.event("switch", 0.0, on=True)
        if note:
            writer.event("note", 0.0, text=note)
        file = writer.finish(status, "" if status == "success" else "a reason")
    if started:
        _change_start(file, datetime.fromisoformat(started).astimezone())
    return file.parent


def _change_start(path: Path, started: datetime) -> None:
    with h5py.File(path, "r+") as file:
        note = file["entry/process/header"]
        header = json.loads(note["data"].asstr()[()]) | {"start_time": started.isoformat()}
        del note["data"]
        note.create_dataset("data", data=json.dumps(header), dtype=TEXT)
