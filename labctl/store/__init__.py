"""A run on disk: an append-only journal while it lives, one verified NeXus file when it is over.

`RunWriter` writes both, `open_run` reads both alike, `finish_journal` rescues the run of a process that died,
`Catalogue` finds runs. Each is loaded when it is first used, so that looking through the catalogue, for
instance, does not wait for HDF5.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import Catalogue, Query
    from .contents import Acquisition
    from .errors import RunNotFound, StoreError
    from .finish import finish_journal
    from .folder import RunInfo, list_orphans, list_runs
    from .journal import read_journal
    from .labels import add_note, change_tags, read_labels
    from .reader import RunData, open_run
    from .writer import RunWriter

_ROOMS = {
    "Acquisition": "contents",
    "Catalogue": "catalogue",
    "Query": "catalogue",
    "RunData": "reader",
    "RunInfo": "folder",
    "RunNotFound": "errors",
    "RunWriter": "writer",
    "StoreError": "errors",
    "add_note": "labels",
    "change_tags": "labels",
    "finish_journal": "finish",
    "list_orphans": "folder",
    "list_runs": "folder",
    "open_run": "reader",
    "read_journal": "journal",
    "read_labels": "labels",
}

__all__ = [
    "Acquisition",
    "Catalogue",
    "Query",
    "RunData",
    "RunInfo",
    "RunNotFound",
    "RunWriter",
    "StoreError",
    "add_note",
    "change_tags",
    "finish_journal",
    "list_orphans",
    "list_runs",
    "open_run",
    "read_journal",
    "read_labels",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = found
    return found
