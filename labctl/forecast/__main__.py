"""`python -m labctl.forecast`: one dry run as a child process; see `labctl.forecast.child` for what is said.

Standard output belongs to the parent, so whatever an experiment or a driver prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from labctl.errors import LabctlError

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class _Parent:
    """The parent at the other end of the pipe, as a watcher of the run."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def tell(self, kind: str, *arguments: Any) -> None:
        self._stream.write(json.dumps([kind, *arguments]) + "\n")
        self._stream.flush()

    def start(self, title: str, total_s: float) -> None:
        self.tell("start", f"dry run of {title}", total_s)

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        self.tell("advance", seconds, rates)

    def points(self, done: int, total: int) -> None:
        self.tell("points", done, total)

    def state(self, text: str) -> None:
        self.tell("state", text)

    def say(self, text: str) -> None:
        self.tell("say", text)

    def finish(self) -> None:
        """The parent knows the end from the answer."""


def main() -> int:
    """Do what the line on standard input asks for; returns the exit status."""
    parent = _Parent(_take_stdout())
    request = json.loads(sys.stdin.readline())
    folder = Path(request.pop("folder"))
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    try:
        parent.tell("forecast", _rehearse(request, folder / "runs", parent))
    except LabctlError as error:
        parent.tell("error", str(error))
        return 2
    return 0


def _rehearse(request: dict[str, Any], folder: Path, parent: _Parent) -> dict[str, Any]:
    from labctl.bench.bench import TwinOptions
    from labctl.runs.execute import find_experiment

    from .rehearsal import rehearse

    experiment = find_experiment(request["experiment"]).model_validate(request["parameters"])
    folder.mkdir()
    twin = TwinOptions(seed=request["seed"], overrides=request["overrides"])
    forecast = rehearse(
        experiment, request["bench"], scale=request["scale"], twin=twin, folder=folder, progress=parent
    )
    return asdict(forecast)


def _take_stdout() -> IO[str]:
    stream = os.fdopen(os.dup(_STDOUT), "w", encoding="utf-8")
    os.dup2(_STDERR, _STDOUT)
    return stream


def _end_with_parent(folder: Path) -> None:
    """Wait until the parent closes the pipe, by whatever end it comes to; leave nothing behind."""
    while os.read(_STDIN, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main())
