"""What can go wrong with a run on disk; every message says which file, what happened and what to do next."""

from __future__ import annotations

from labctl.errors import LabctlError


class StoreError(LabctlError, RuntimeError):
    """A run could not be written, completed or read."""


class RunNotFound(StoreError):
    """There is no run at the given path."""
