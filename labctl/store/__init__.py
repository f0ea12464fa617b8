"""A run on disk: an append-only journal while it lives, one verified NeXus file when it is over.

`RunWriter` writes both, `open_run` reads both alike, `finish_journal` rescues the run of a process that died.
"""

from .contents import Acquisition
from .errors import RunNotFound, StoreError
from .finish import finish_journal
from .folder import RunInfo, list_orphans, list_runs
from .journal import read_journal
from .reader import RunData, open_run
from .writer import RunWriter

__all__ = [
    "Acquisition",
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
]
