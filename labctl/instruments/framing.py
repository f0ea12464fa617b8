"""Framers: pure functions that cut one message out of the bytes received so far.

A framer takes a `bytearray`, removes the first complete message from its front and returns it, or
returns None while the message is incomplete. Framers do no input or output, so they can be tested on
every way in which a transport may split or merge messages.
"""

from __future__ import annotations

from collections.abc import Callable

Framer = Callable[[bytearray], bytes | None]


def until(terminator: bytes) -> Framer:
    """Messages that end with `terminator`, which is removed."""

    def cut(buffer: bytearray) -> bytes | None:
        end = buffer.find(terminator)
        if end < 0:
            return None
        message = bytes(buffer[:end])
        del buffer[: end + len(terminator)]
        return message

    return cut


def lines_until(is_last: Callable[[bytes], bool], terminator: bytes = b"\r\n") -> Framer:
    """Answers of one or more lines, the last of which satisfies `is_last`.

    The lines are joined by newlines; the terminators are removed.
    """

    def cut(buffer: bytearray) -> bytes | None:
        lines = []
        begin = 0
        while (end := buffer.find(terminator, begin)) >= 0:
            lines.append(bytes(buffer[begin:end]))
            begin = end + len(terminator)
            if is_last(lines[-1]):
                del buffer[:begin]
                return b"\n".join(lines)
        return None

    return cut
