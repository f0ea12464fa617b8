"""A dry run from outside: start the rehearsal as a process of its own, watch it, take its forecast.

The child is told what to do in one line of JSON on its standard input, and that pipe is also what ties it to
this process: when it breaks, the child removes its folder and ends. It answers in lines of JSON: calls of the
progress watcher, and at last the forecast or an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from labctl.loading import bundled_root
from labctl.runs.progress import Progress, Silent

from .forecast import Forecast, ForecastError

END_S = 10.0
"""Wall time for the child to end by itself once it has answered."""
_LOG = "log.txt"


@dataclass(frozen=True)
class DryRun:
    """What is to be rehearsed.

    parameters: of the experiment, SI, as `Experiment.parameters` gives them. scale: part of the bench time.
    overrides: settings of the twin by dotted path.
    """

    experiment: str
    parameters: dict[str, Any]
    bench: str
    scale: float = 1.0
    seed: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)


def dry_run(wanted: DryRun, progress: Progress | None = None) -> Forecast:
    """Rehearse in a child process and return its forecast; leaves nothing behind.

    Raises ForecastError with the child's reason when there is no forecast.
    """
    watcher: Progress = progress or Silent()
    with tempfile.TemporaryDirectory(prefix="labctl-dry-run-", ignore_cleanup_errors=True) as folder:
        with (Path(folder) / _LOG).open("w", encoding="utf-8") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "labctl.forecast"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8", env=_environment(),
            )  # fmt: skip
            try:
                answer = _converse(child, asdict(wanted) | {"folder": folder}, watcher)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(END_S)
            except BrokenPipeError:
                answer = None
            finally:
                watcher.finish()
                _end(child)
        if answer is None:
            raise ForecastError(f"the dry run broke: {_last_line(Path(folder) / _LOG)}")
    return answer


def _environment() -> dict[str, str]:
    """The child finds this labctl wherever it is started; `-P` keeps its working directory out."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(bundled_root()), inherited]))}


def _converse(
    child: subprocess.Popen[str], request: Mapping[str, Any], progress: Progress
) -> Forecast | None:
    """Tell the child, pass on what it tells, and return its forecast. None when it ends without one."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(request) + "\n")
    child.stdin.flush()
    return _listen(child.stdout, progress)


def _listen(stream: IO[str], progress: Progress) -> Forecast | None:
    for line in stream:
        kind, *arguments = json.loads(line)
        if kind == "forecast":
            return TypeAdapter(Forecast).validate_python(arguments[0])
        if kind == "error":
            raise ForecastError(arguments[0])
        getattr(progress, kind)(*arguments)
    return None


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(OSError):
        child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "its process died"
