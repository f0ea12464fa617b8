"""What the header of a run says about its code, its files and its people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from labctl.quantities import Seconds
from labctl.settings import RunSettings
from labctl.store import RunWriter, open_run, provenance
from labctl.store.provenance import CodeState, code_states, installed_packages, machine_header, run_metadata

Git = Callable[..., str]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Runs git in the repository `tmp_path/repository`, which has one commit of one file."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def call(*arguments: str) -> str:
        command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
        try:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:
            pytest.skip("git is not installed")

    call("init", "-q")
    (folder / "mine.py").write_text("class Mine: pass\n")
    call("add", "mine.py")
    call("commit", "-qm", "first")
    return call


def test_a_clean_repository(git: Git, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    commit = git("rev-parse", "HEAD")
    assert code_states(folder, tmp_path) == {folder: CodeState(commit, ""), tmp_path: CodeState()}
    assert CodeState(commit, "").described == commit
    (folder / "untracked.py").write_text("x = 1\n")
    assert code_states(folder)[folder] == CodeState(commit, "")


def test_changes_are_told_apart(git: Git, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    states = []
    for text in (b"class Mine: x = 1\n", b"class Mine: x = 2\n", b"\0\1", b"\0\2", b"class Mine: x = 1\n"):
        (folder / "mine.py").write_bytes(text)
        states.append(code_states(folder)[folder])
    assert len({state.diff_sha256 for state in states}) == 4 and states[0] == states[-1]
    assert states[0].described == f"{git('rev-parse', 'HEAD')}-dirty"
    (folder / "mine.py").write_text("class Mine: x = 1\n")
    expected = hashlib.sha256(f"{git('diff', '--full-index', 'HEAD')}\n".encode()).hexdigest()
    assert states[0].diff_sha256 == expected


def test_without_git_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_states(tmp_path)[tmp_path] == CodeState(None, None)
    assert CodeState().described is None


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for git is a shell script")
def test_a_git_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "_GIT_LIMIT_S", 0.05)
    assert code_states(tmp_path)[tmp_path] == CodeState()


def test_packages_as_the_metadata_says() -> None:
    packages = installed_packages()
    for name in ("numpy", "h5py", "ruamel-yaml", "import-linter"):
        assert packages[name] == importlib.metadata.version(name)
    header = machine_header("hbt", NOW)
    assert header["versions"]["numpy"] == packages["numpy"] and header["versions"]["labctl"]
    assert (header["experiment"], header["start_time"]) == ("hbt", NOW.isoformat())
    assert header["uuid"] != machine_header("hbt", NOW)["uuid"]


def test_metadata_of_an_experiment_in_the_users_repository(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repository"
    monkeypatch.chdir(tmp_path)
    module = ModuleType("mine_for_provenance")
    module.__file__ = str(folder / "mine.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    fields = {"dwell": Seconds, "n": int}
    experiment = type("Mine", (BaseModel,), {"__module__": module.__name__, "__annotations__": fields})
    bench = tmp_path / "b.yaml"
    bench.write_bytes(b"bench: b\r\n")
    labels = RunSettings(operator="me", sample="s", position="p", tags=("cold",))
    found = run_metadata(experiment, bench, labels)
    assert found == {
        "operator": "me", "sample": "s", "position": "p", "tags": ["cold"],
        "parameter_units": {"dwell": "s"},
        "experiment_file": str(folder / "mine.py"),
        "experiment_text": "class Mine: pass\n",
        "experiment_sha256": hashlib.sha256(b"class Mine: pass\n").hexdigest(),
        "bench_file": str(bench),
        "bench_sha256": hashlib.sha256(b"bench: b\r\n").hexdigest(),
        "user_folder": str(folder),
        "user_git_commit": git("rev-parse", "HEAD"),
        "user_git_diff_sha256": "",
    }  # fmt: skip
    with RunWriter.create(tmp_path / "runs", "mine", found) as writer:
        header = open_run(writer.finish("success")).header
    assert {name: header[name] for name in found} == found
    assert header["packages"] == dict(installed_packages())


def test_a_class_without_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))
    found = run_metadata(type("Mine", (), {"__module__": "notebook"}), None, RunSettings())
    assert found["experiment_file"] is found["experiment_text"] is found["experiment_sha256"] is None
    assert found["bench_file"] is found["bench_sha256"] is None
    assert found["user_folder"] is None
