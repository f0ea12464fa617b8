"""`labctl hook test` says whether somebody would be told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.cli.commands import Call, assert_refused


def write_hook(folder: Path, program: str) -> None:
    command = json.dumps([sys.executable, "-c", program])
    (folder / "labctl.toml").write_text(f'[hooks]\ncommand = {command}\non = ["trip"]\n')


def test_a_hook_that_works(labctl: Call, tmp_path: Path) -> None:
    write_hook(tmp_path, "import json, sys; print('told of', json.load(sys.stdin)['event'])")
    ended = labctl("hook", "test")
    assert (ended.code, ended.err) == (0, "")
    assert "told of test" in ended.out and "called on: trip" in ended.out and "ended well" in ended.out
    call = json.loads(labctl("hook", "test", "--json").out)
    assert (call["event"], call["problem"], call["output"]) == ("test", "", "told of test\n")


def test_a_hook_that_fails(labctl: Call, tmp_path: Path) -> None:
    write_hook(tmp_path, "import sys; sys.exit('no mail today')")
    ended = labctl("hook", "test")
    assert "no mail today" in ended.out
    assert_refused(ended, "ended with code 1", str(tmp_path / "labctl.toml"))


def test_no_hook(labctl: Call, tmp_path: Path) -> None:
    assert_refused(labctl("hook", "test"), "no hook is set", "[hooks]", "labctl.toml")
    (tmp_path / "labctl.toml").write_text("[hook]\n")
    assert_refused(labctl("hook", "test"), "unknown setting 'hook'", "did you mean 'hooks'")
