"""Where a run comes from: code and its uncommitted changes, packages, machine, files, people and sample.

Everything here is quick, because a run waits for it: git is asked in parallel and has a time limit, and
the installed packages are read off the names of their folders.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from labctl.quantities import unit_of
from labctl.settings import RunSettings, settings_file

_CHECKOUT = Path(__file__).resolve().parents[2]
_GIT_LIMIT_S = 2.0
_MAIN_PACKAGES = ("numpy", "scipy", "numba", "h5py", "hdf5plugin", "qcodes", "pyvisa", "pyserial", "pydantic")
_DIST_INFO = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)\.dist-info")


@dataclass(frozen=True)
class CodeState:
    """The commit of a git repository, and the SHA-256 of what `git diff HEAD` says, "" when nothing.

    Both are None outside of a repository, and where git does not answer in time.
    """

    commit: str | None = None
    diff_sha256: str | None = None

    @property
    def described(self) -> str | None:
        """The commit, with "-dirty" when files were changed since."""
        return f"{self.commit}-dirty" if self.commit and self.diff_sha256 else self.commit


def machine_header(experiment: str, now: datetime) -> dict[str, Any]:
    """What the machine knows about a run that begins: its identity, host, versions, the code of labctl."""
    code = code_states(_CHECKOUT)[_CHECKOUT] if (_CHECKOUT / ".git").exists() else CodeState()
    return {
        "experiment": experiment,
        "uuid": str(uuid4()),
        "start_time": now.isoformat(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "versions": _main_versions(),
        "packages": dict(installed_packages()),
        "git_commit": code.described,
        "git_diff_sha256": code.diff_sha256,
    }


def run_metadata(experiment: type, bench_file: Path | None, labels: RunSettings) -> dict[str, Any]:
    """Who measures what with which files, for the header of a run.

    experiment: the class; its file is kept as text with its SHA-256, the units of its fields, and where the
    user's folder is in a git repository, the state of that. Without a file (a notebook) these are None.
    """
    file = _source_file(experiment)
    text = file.read_bytes() if file else None
    return {
        **labels.model_dump(mode="json"),
        "parameter_units": _units(experiment),
        "experiment_file": str(file) if file else None,
        "experiment_sha256": _sha256(text),
        "experiment_text": text.decode("utf-8", "replace") if text is not None else None,
        "bench_file": str(bench_file) if bench_file else None,
        "bench_sha256": _sha256(bench_file.read_bytes() if bench_file else None),
        **_user_code(file),
    }


def code_states(*folders: Path) -> dict[Path, CodeState]:
    """The state of the git repository that each of the folders is in."""
    questions = {
        (folder, what): _ask_git(folder, *command)
        for folder in dict.fromkeys(folders)
        for what, command in (("commit", _COMMIT), ("diff", _DIFF))
    }
    deadline_s = time.monotonic() + _GIT_LIMIT_S
    answers = {key: _answer(asked, deadline_s) for key, asked in questions.items()}
    return {f: _code_state(answers[f, "commit"], answers[f, "diff"]) for f in dict.fromkeys(folders)}


@cache
def installed_packages() -> Mapping[str, str]:
    """Version of every installed package by its normal name; the first on the path counts, as in imports."""
    found: dict[str, str] = {}
    for folder in map(Path, sys.path):
        for entry in sorted(folder.glob("*.dist-info")):
            if match := _DIST_INFO.fullmatch(entry.name):
                found.setdefault(re.sub("[-_.]+", "-", match["name"]).lower(), match["version"])
    return dict(sorted(found.items()))


def _main_versions() -> dict[str, str]:
    from labctl import __version__

    packages = installed_packages()
    main = {name: packages[name] for name in _MAIN_PACKAGES if name in packages}
    return {"python": sys.version.split()[0], "labctl": __version__, **main}


def _user_code(file: Path | None) -> dict[str, Any]:
    """The state of the repository of the user's folder, unless it is that of labctl."""
    folder = _user_folder(file)
    code = CodeState()
    if folder is not None and not folder.is_relative_to(_CHECKOUT):
        code = code_states(folder)[folder]
    return {
        "user_folder": str(folder) if folder else None,
        "user_git_commit": code.described,
        "user_git_diff_sha256": code.diff_sha256,
    }


def _user_folder(file: Path | None) -> Path | None:
    """The folder of the settings that hold here, else that of the experiment's file."""
    settings = settings_file(Path.cwd())
    return settings.parent if settings else file.parent if file else None


def _units(experiment: type) -> dict[str, str]:
    """SI unit of every field that is a quantity."""
    fields = getattr(experiment, "model_fields", {})
    return {name: unit for name, field in fields.items() if (unit := unit_of(field.metadata))}


def _source_file(experiment: type) -> Path | None:
    file = getattr(sys.modules.get(experiment.__module__), "__file__", None)
    return Path(file).resolve() if file and Path(file).is_file() else None


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


_COMMIT = ("rev-parse", "--verify", "HEAD")
# --full-index: a changed binary file is named with its hash instead of being printed
_DIFF = ("diff", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")


def _ask_git(folder: Path, *question: str) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            ["git", "-C", str(folder), *question],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},  # only look: take no lock, write no index
        )  # fmt: skip
    except OSError:
        return None


def _answer(asked: subprocess.Popen[bytes] | None, deadline_s: float) -> bytes | None:
    """What git said, None when it failed or took too long."""
    if asked is None:
        return None
    with asked:
        try:
            said, _ = asked.communicate(timeout=max(deadline_s - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            asked.kill()
            return None
    return said if asked.returncode == 0 else None


def _code_state(commit: bytes | None, diff: bytes | None) -> CodeState:
    return CodeState(
        commit.decode().strip() if commit else None,
        (_sha256(diff) if diff else "") if diff is not None else None,
    )
