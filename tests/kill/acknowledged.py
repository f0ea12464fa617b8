"""What a run means to record, and what of it was acknowledged, written down outside of the run's folder.

Every entry is one `write()`, so that the log survives the process as the journal does.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any


class AcknowledgementLog:
    """Writes down what the run means to record and, once `acknowledged` says so, that it is safe."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._pending: deque[tuple[int, dict[str, Any]]] = deque()
        self._lock = threading.Lock()
        self._writer: Any = None

    def install(self) -> None:
        """Listen to every `RunWriter`."""
        from labctl.store import RunWriter

        for name, describe in (("row", _row), ("tags", _tags)):
            setattr(RunWriter, name, self._logged(getattr(RunWriter, name), describe))
        for name in ("event", "begin_acquisition", "end_acquisition", "flush", "finish"):
            setattr(RunWriter, name, self._followed(getattr(RunWriter, name)))

    def drain(self) -> None:
        """Write down all that is acknowledged by now."""
        with self._lock:
            while self._pending and self._writer.acknowledged > self._pending[0][0]:
                self._write("acknowledged", self._pending.popleft()[1])

    def _logged(self, method: Callable[..., int], describe: Callable[..., dict[str, Any]]) -> Any:
        def logged(writer: Any, *arguments: Any, **named: Any) -> int:
            record = describe(*arguments, **named)
            self._write("intended", record)
            number = method(writer, *arguments, **named)
            self._writer = writer
            with self._lock:
                self._pending.append((number, record))
            self.drain()
            return number

        return logged

    def _followed(self, method: Callable[..., Any]) -> Any:
        def followed(writer: Any, *arguments: Any, **named: Any) -> Any:
            result = method(writer, *arguments, **named)
            self.drain()
            return result

        return followed

    def _write(self, what: str, record: dict[str, Any]) -> None:
        os.write(self._fd, json.dumps({"what": what, **record}).encode() + b"\n")


def _row(sweep: str, index: int, attempt: int, values: Any, *_: Any, **__: Any) -> dict[str, Any]:
    return {"kind": "row", "sweep": sweep, "index": index, "attempt": attempt, "values": dict(values)}


def _tags(acquisition: int, block: Any) -> dict[str, Any]:
    return {"kind": "tags", "acquisition": acquisition, **block_summary(block)}


def block_summary(block: Any) -> dict[str, Any]:
    """What identifies a block bit by bit."""
    crc = zlib.crc32(block.channels.tobytes(), zlib.crc32(block.times_ps.tobytes()))
    return {"begin_ps": int(block.begin_ps), "end_ps": int(block.end_ps), "tags": len(block), "crc": crc}
