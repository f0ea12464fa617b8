"""The wheel holds all that labctl needs, and works where it is installed and nothing else is."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("labctl", "drivers", "experiments", "configs", "pyproject.toml", "setup.py", "README.md")
DEADLINE_S = 200.0
OWN = """\
from typing import ClassVar

from labctl.runs import Experiment


class Own(Experiment):
    \"\"\"An experiment of one's own.\"\"\"

    name: ClassVar[str] = "own"
    roles: ClassVar[dict[str, type]] = {}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("pip", "setuptools", "wheel"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; the extra [test] has what wheels are built with")
    source = tmp_path_factory.mktemp("source")  # a build leaves files beside the sources
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    folder = tmp_path_factory.mktemp("wheel")
    run(source, sys.executable, "-m", "pip", "wheel", *PIP, "--no-build-isolation", "-w", str(folder), ".")
    return next(folder.glob("labctl-*.whl"))


PIP = ("--quiet", "--disable-pip-version-check", "--no-deps")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `labctl` of an environment with the wheel, and what is installed here behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    scripts = Path(sysconfig.get_path("scripts", "venv", scheme))
    seen = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "behind.pth").write_text("".join(f"{path}\n" for path in seen))
    python = scripts / Path(sys.executable).name
    run(
        folder,
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        *PIP,
        "--no-index",
        str(wheel),
    )
    return scripts / "labctl"


def run(folder: Path, *command: str) -> str:
    """What a command prints; without PYTHONPATH, so that only what is installed is found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_configurations_drivers_and_experiments(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("benches", "twins"):
        files = {f"labctl/_configs/{kind}/{file.name}" for file in (ROOT / "configs" / kind).glob("*.yaml")}
        assert files and files <= names
    modules = {
        file.relative_to(ROOT).as_posix()
        for package in ("labctl", "drivers", "experiments")
        for file in (ROOT / package).rglob("*.py")
    }
    assert modules | {"labctl/py.typed"} <= names
    assert not any(name.startswith(("tests", "docs", "configs")) for name in names)


def test_an_empty_folder_is_enough(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, str(installed), "list", "--json"))
    assert {"blinking_control", "delay_scan", "hbt"} == {entry["name"] for entry in found["experiments"]}
    assert {"dot_lab", "sim_dot"} == set(found["benches"])
    assert list(tmp_path.iterdir()) == []


def test_own_experiments_stand_beside_the_bundled_ones(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise RuntimeError('not to be imported')\n")
    (tmp_path / "experiments" / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "experiments" / "own.py").write_text(OWN)
    (tmp_path / "labctl.toml").touch()
    found = json.loads(run(tmp_path, str(installed), "list", "--json"))
    assert {"delay_scan", "hbt", "own"} < {entry["name"] for entry in found["experiments"]}
    assert list(found["broken"]) == ["broken"]
    demo = json.loads(run(tmp_path, str(installed), "demo", "--duration", "10", "--json"))
    assert len(demo["verdicts"]) == 3
    assert sum(file.endswith("run.h5") for file in demo["files"]) == 3
    assert all((tmp_path / file).is_file() for file in demo["files"])
