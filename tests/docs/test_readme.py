"""Everything that the README shows is done here, in its order, in a folder of the reader's own."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
LIMIT_S = 100.0
"""Wall time that one command may take; then it is killed and the test fails."""


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_tests_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


readme = _load(Path(__file__).parent / "readme_blocks.py")
README = readme.blocks_of(CHECKOUT / "README.md")


class Lab:
    """The reader's folder, with `labctl` on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my_lab"
        self.folder.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        shim = programs / "labctl"
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labctl "$@"\n', encoding="utf-8")
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
                while readme.first_missing(interrupt_after, printed) and (line := process.stdout.readline()):
                    printed += line
                process.send_signal(signal.SIGINT)
            rest, complaints = process.communicate()
        finally:
            limit.cancel()
            process.kill()
        printed += rest
        assert process.returncode == 0, f"{shlex.join(command)}\n{printed}\n{complaints}"
        return printed


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """The reader's folder with every file that the README shows, and a recording to analyse."""
    place = Lab(tmp_path)
    for block in README:
        if (path := block.remark("file")) is not None:
            place.write(path, block.text)
    _write_recording(place.folder / "measurement.ptu")
    return place


def _write_recording(path: Path) -> None:
    """Two detectors at 10 kcps each for 2 s."""
    writer = _load(CHECKOUT / "tests" / "timetags" / "ptu_writer.py")
    rng = np.random.default_rng(7)
    clicks = np.sort(rng.integers(0, 2_000_000_000, 40_000))  # ns
    channels = rng.integers(0, 2, clicks.size)
    events = [writer.Event(int(c), int(t)) for c, t in zip(channels, clicks, strict=True)]
    record_type = writer.FAMILIES["HydraHarpV2"] | writer.T2
    writer.write_ptu(path, writer.encode(events, record_type), record_type, global_resolution_s=1e-9)


def test_everything_shown_works(lab: Lab) -> None:
    printed = ""
    for block in README:
        where = f"README.md, line {block.line}"
        if block.note.startswith("not executed here") or block.remark("file") is not None:
            continue
        if block.note == "output":
            missing = readme.first_missing(block.text.splitlines(), printed)
            assert missing is None, f"{where}: not printed: {missing}\nbut this was:\n{printed}"
        elif block.language == "python":
            printed = lab.run(sys.executable, "-c", block.text)
        elif block.language == "console":
            _follow(lab, block, where)


def _follow(lab: Lab, block: readme.Block, where: str) -> None:
    shorter = block.remark("tested with")
    for item in readme.commands_of(block):
        waits_for = item.output if item.interrupted else None
        printed = lab.run(*shlex.split(shorter or item.command), interrupt_after=waits_for)
        if shorter:
            unexplained = set(readme.labels_of(printed.splitlines())) - set(readme.labels_of(item.output))
            assert not unexplained, f"{where}: {unexplained}"
            continue
        missing = readme.first_missing(item.output, printed)
        assert missing is None, f"{where}: `{item.command}` did not print: {missing}\nbut:\n{printed}"


def test_examples_are_clean(lab: Lab) -> None:
    files = [path for block in README if (path := block.remark("file")) and path.endswith(".py")]
    assert len(files) == 3
    settings = str(CHECKOUT / "pyproject.toml")
    lab.run(sys.executable, "-m", "ruff", "check", "--config", settings, *files)
    lab.run(
        sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", str(CHECKOUT / ".mypy_cache"),
        "--follow-imports=silent", "--explicit-package-bases", *files,
    )  # fmt: skip


def test_experiment_is_as_short_as_promised() -> None:
    (experiment,) = [b for b in README if b.remark("file") == "experiments/darks.py"]
    assert len(experiment.text.splitlines()) <= 60


def test_only_installation_is_not_executed() -> None:
    skipped = [b for b in README if b.note.startswith("not executed here")]
    words = {line.split()[1] for b in skipped for line in b.text.splitlines()}
    assert words <= {"make", "uv", "pip", "python3", "git"}


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in readme.links_of(page) if not (page.parent / link).exists()]
    assert not broken
