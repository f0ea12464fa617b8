"""`make demo` and `make test` install once, and again only when what is to be installed has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAMPS = (".venv/bin/python", ".venv/.demo", ".venv/.test")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Makefile and what it looks at, as after a first `make test`."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for second, name in enumerate(("pyproject.toml", "setup.py", *STAMPS), start=1_000_000_000):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def plan(folder: Path, target: str) -> str:
    command = ["make", "--no-print-directory", "--dry-run", target]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_second_time_nothing_is_installed(checkout: Path) -> None:
    for target, what in (("demo", "labctl demo"), ("test", "pytest")):
        steps = plan(checkout, target)
        assert "pip" not in steps and "venv .venv" not in steps
        assert what in steps


@pytest.mark.parametrize("changed", ["pyproject.toml", "setup.py"])
def test_changed_requirements_are_installed(checkout: Path, changed: str) -> None:
    (checkout / changed).touch()
    assert "pip install" in plan(checkout, "demo")
    assert 'pip install --quiet --disable-pip-version-check -e ".[test]"' in plan(checkout, "test")


def test_a_clean_checkout_sets_itself_up(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    steps = plan(checkout, "demo").splitlines()
    assert "-m venv .venv" in steps[0] and "pip install" in steps[1] and steps[-1].endswith("labctl demo")
