"""A reader who does everything that a page shows, in its order, in a folder of the reader's own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.docs.readme_blocks import Block, commands_of, first_missing, labels_of

CHECKOUT = Path(__file__).resolve().parents[2]
LIMIT_S = 100.0
"""Wall time that one command may take; then it is killed and the test fails."""


class Lab:
    """The reader's folder, with `labctl` and `python` on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my_lab"
        self.folder.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        for name, call in (("labctl", "-m labctl"), ("python", "")):
            shim = programs / name
            shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {call} "$@"\n', encoding="utf-8")
            shim.chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "",
            "COLUMNS": "100",
            "MPLBACKEND": "agg",
        }

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def write_files(self, blocks: list[Block]) -> None:
        """Every file that a page shows."""
        for block in blocks:
            if (path := block.remark("file")) is not None:
                self.write(path, block.text)

    def run(self, *command: str, interrupt_after: list[str] | None = None) -> str:
        """Standard output of a command that must succeed, ended by Ctrl-C if lines are given to wait for."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self._environment, text=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        limit = threading.Timer(LIMIT_S, process.kill)
        limit.start()
        try:
            printed = ""
            if interrupt_after is not None:
                while first_missing(interrupt_after, printed) and (line := process.stdout.readline()):
                    printed += line
                process.send_signal(signal.SIGINT)
            rest, complaints = process.communicate()
        finally:
            limit.cancel()
            process.kill()
        printed += rest
        assert process.returncode == 0, f"{shlex.join(command)}\n{printed}\n{complaints}"
        return printed

    def check_examples(self, blocks: list[Block]) -> list[str]:
        """Run ruff and mypy on the Python files that a page shows, and return their names."""
        files = [path for block in blocks if (path := block.remark("file")) and path.endswith(".py")]
        settings = str(CHECKOUT / "pyproject.toml")
        self.run(sys.executable, "-m", "ruff", "check", "--config", settings, *files)
        self.run(
            sys.executable, "-m", "mypy", "--config-file", settings,
            "--cache-dir", str(CHECKOUT / ".mypy_cache"),
            "--follow-imports=silent", "--explicit-package-bases", *files,
        )  # fmt: skip
        return files

    def work_through(self, page: str, blocks: list[Block]) -> None:
        """Run what a page shows, and see that it prints what the page says."""
        printed = ""
        for block in blocks:
            where = f"{page}, line {block.line}"
            if block.note.startswith("not executed here") or block.remark("file") is not None:
                continue
            if block.note == "output":
                missing = first_missing(block.text.splitlines(), printed)
                assert missing is None, f"{where}: not printed: {missing}\nbut this was:\n{printed}"
            elif block.language == "python":
                printed = self.run(sys.executable, "-c", block.text)
            elif block.language == "console":
                self._follow(block, where)

    def _follow(self, block: Block, where: str) -> None:
        shorter = block.remark("tested with")
        for item in commands_of(block):
            waits_for = item.output if item.interrupted else None
            printed = self.run(*shlex.split(shorter or item.command), interrupt_after=waits_for)
            if shorter:
                unexplained = set(labels_of(printed.splitlines())) - set(labels_of(item.output))
                assert not unexplained, f"{where}: {unexplained}"
                continue
            missing = first_missing(item.output, printed)
            assert missing is None, f"{where}: `{item.command}` did not print: {missing}\nbut:\n{printed}"
