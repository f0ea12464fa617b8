"""What the guardian did, one line of JSON each, in `guardian.jsonl` of the run or of the runtime folder."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from labctl.bench.locks import runtime_folder

FILE_NAME = "guardian.jsonl"


class Record:
    """Appends to the file; whatever is wrong with disk or terminal never stops the guardian.

    A folder can be named at any time; it gets everything from then on.
    """

    def __init__(self, engine_pid: int) -> None:
        self._engine_pid = engine_pid
        self._folder: Path | None = None

    def write_into(self, folder: Path) -> None:
        """Use this folder of a run from now on."""
        self._folder = folder

    def write(self, what: str, **fields: object) -> None:
        """Append a line: UTC and monotonic time in s, the engine's process, what happened, and `fields`."""
        line = {
            "time": datetime.now(UTC).isoformat(), "monotonic_s": time.monotonic(),
            "engine_pid": self._engine_pid, "guardian_pid": os.getpid(), "what": what, **fields,
        }  # fmt: skip
        with suppress(OSError):
            folder = self._folder if self._folder is not None else runtime_folder()
            with (folder / FILE_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, default=str) + "\n")

    def say(self, text: str) -> None:
        """Tell the user, if there still is a terminal."""
        with suppress(OSError, ValueError):
            # a process that died in its progress bar has hidden the cursor and not ended the line
            begin = "\x1b[?25h\r\n" if sys.stderr.isatty() else ""
            sys.stderr.write(f"{begin}labctl guardian: {text}\n")
            sys.stderr.flush()
