"""A run on disk: an append-only journal while it lives, one verified NeXus file when it is over.

`RunWriter` writes both, and goes on with a run that ended too early; `open_run` reads both alike;
`finish_journal` and `recover_orphans` rescue runs of processes that died; `Catalogue` finds runs. Each is
loaded when it is first used, so that looking through the catalogue, for instance, does not wait for HDF5.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import Catalogue, Query
    from .contents import Acquisition, AuditEntry, Monitor
    from .errors import RunNotFound, StoreError
    from .finish import Recovered, finish_journal, recover_orphans
    from .folder import RunInfo, list_orphans, list_runs
    from .labels import add_note, change_tags, read_labels
    from .reader import RunData, open_run
    from .records import read_journal
    from .writer import RunWriter

_ROOMS = {
    "Acquisition": "contents",
    "AuditEntry": "contents",
    "Catalogue": "catalogue",
    "Monitor": "contents",
    "Query": "catalogue",
    "Recovered": "finish",
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
    "read_journal": "records",
    "read_labels": "labels",
    "recover_orphans": "finish",
}

__all__ = [
    "Acquisition",
    "AuditEntry",
    "Catalogue",
    "Monitor",
    "Query",
    "Recovered",
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
    "recover_orphans",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = found
    return found
