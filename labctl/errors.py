"""The base of every error that is a user's to mend: its message is complete, and needs no traceback."""

from __future__ import annotations


class LabctlError(Exception):
    """Says what is wrong, with what, and what to do next."""
