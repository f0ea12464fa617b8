"""The base of every error that is a user's to mend: its message is complete, and needs no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabctlError(Exception):
    """Says what is wrong, with what, and what to do next."""


def nearest(name: str, available: Iterable[str]) -> str:
    """`; did you mean 'x'? (known: ...)` for error messages."""
    known = sorted(available)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    return f"{suggestion} (known: {', '.join(known) or 'none'})"
