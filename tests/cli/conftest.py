"""`labctl` called in this process, in an empty working directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labctl.cli import main
from tests.cli.commands import Call, Ended


@pytest.fixture
def labctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return call
