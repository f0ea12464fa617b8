"""SCPI headers for simulated instruments: one table from headers to handlers.

A header is written as manuals write it, `SENSe:POWer[:DC]:UNIT?`: capitals are the short form, brackets
are optional, and each word is understood in its short or its long form only, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Handler = Callable[[str], str | None]


def header_pattern(header: str) -> re.Pattern[str]:
    """The pattern of everything that may be typed for `header`."""

    def word(match: re.Match[str]) -> str:
        long = match.group()
        short = "".join(letter for letter in long if not letter.islower())
        return f"(?:{short}|{long.upper()})" if short != long else short

    pattern = header.replace("*", r"\*").replace("?", r"\?")
    pattern = re.sub(r"[A-Za-z]+", word, pattern)
    pattern = pattern.replace("[", "(?:").replace("]", ")?")
    return re.compile(f":?{pattern}", re.IGNORECASE)


class ScpiTable:
    """Handlers by header; a handler takes the argument text and returns the answer of a query."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._rows = [(header_pattern(header), handler) for header, handler in handlers.items()]

    def find(self, header: str) -> Handler | None:
        """The handler of a typed header, None if there is no such header."""
        for pattern, handler in self._rows:
            if pattern.fullmatch(header):
                return handler
        return None
