"""What can go wrong with a run on disk; every message says which file, what happened and what to do next."""

from __future__ import annotations


class StoreError(RuntimeError):
    """A run could not be written, completed or read."""


class RunNotFound(StoreError):  # noqa: N818  reads as what it says
    """There is no run at the given path."""
