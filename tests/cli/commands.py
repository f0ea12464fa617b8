"""Calling `labctl` as users do: in a process of its own, or quickly in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


def command(*arguments: str) -> list[str]:
    """The command line of a process."""
    return [sys.executable, "-m", "labctl", *arguments]


def environment() -> dict[str, str]:
    """The child finds this labctl wherever it is started."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def labctl_process(folder: Path, *arguments: str, **options: Any) -> Ended:
    """Run `labctl` in `folder` as a process of its own."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=DEADLINE_S,
        **options,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def assert_refused(ended: Ended, *words: str) -> None:
    """Exit code 2 and one line on stderr that begins with `labctl: ` and has the words."""
    assert ended.code == 2, ended
    assert ended.err.startswith("labctl: "), ended.err
    assert ended.err.endswith("\n") and ended.err.count("\n") == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err
