"""The processes of a trial, found by a mark in their environment: run, guardian, children."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

MARK = "LABCTL_TRIAL"
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def marked(mark: str) -> list[int]:
    """Living processes that inherited the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0") and _state(folder) not in "ZX":
                    found.append(int(folder.name))
    return found


def command_line(pid: int) -> str:
    """Its arguments; "" when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def guardians(mark: str) -> list[int]:
    """The guardians among the processes of a trial."""
    return [pid for pid in marked(mark) if "labctl.bench.guardian" in command_line(pid)]


def cpu_s(pid: int) -> float:
    """CPU time of a living process, in s; 0 when it is gone."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S
    return 0.0


def end_all(mark: str) -> None:
    """Kill what a trial left behind."""
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]
