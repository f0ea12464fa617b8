"""A run on disk: an append-only journal while it lives, one verified NeXus file when it is over.

`RunWriter` writes both, and goes on with a run that ended too early; `open_run` reads both alike;
`finish_journal` and `recover_orphans` rescue runs of processes that died.
"""

from .contents import Acquisition, AuditEntry, Monitor
from .errors import RunNotFound, StoreError
from .finish import Recovered, finish_journal, recover_orphans
from .folder import RunInfo, list_orphans, list_runs
from .reader import RunData, open_run
from .records import read_journal
from .writer import RunWriter

__all__ = [
    "Acquisition",
    "AuditEntry",
    "Monitor",
    "Recovered",
    "RunData",
    "RunInfo",
    "RunNotFound",
    "RunWriter",
    "StoreError",
    "finish_journal",
    "list_orphans",
    "list_runs",
    "open_run",
    "read_journal",
    "recover_orphans",
]
