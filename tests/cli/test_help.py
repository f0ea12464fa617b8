"""Help is instant, because nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.commands import Call, environment

HEAVY = ("numpy", "scipy", "numba", "pydantic", "rich", "qcodes", "matplotlib", "h5py", "ruamel", "pyvisa")

COMMANDS = (
    "demo", "run", "list", "show", "plot", "recover", "check", "twin", "analyze",
    "pause", "continue", "stop", "abort", "note", "status",
)  # fmt: skip


def test_the_commands_import_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, labctl.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_help_and_no_arguments_show_the_commands(labctl: Call) -> None:
    ended = labctl("--help")
    assert (ended.code, ended.err) == (0, "")
    assert labctl() == ended
    for name in COMMANDS:
        assert f"\n  {name} " in ended.out
        assert labctl(name, "--help").code == 0
