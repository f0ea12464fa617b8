"""`labctl.toml`: found from below, validated, and refused in one line that names file and setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.loading import user_roots
from labctl.settings import RunSettings, Settings, SettingsError, load_settings

WHOLE = """
path = ["lab", "/else"]
[run]
operator = "me"
sample = "CdSe 12"
position = "dot 4"
tags = ["cold", "cold", "new"]
[hooks]
command = ["./tell.sh", "--short"]
on = ["done", "trip"]
timeout = "5 s"
"""


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory two folders below the one that has the settings."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LABCTL_PATH", raising=False)
    return folder


def test_a_file_above_is_read(below: Path, tmp_path: Path) -> None:
    (tmp_path / "labctl.toml").write_text(WHOLE)
    settings = load_settings()
    assert settings.folder == tmp_path
    assert settings.roots == user_roots() == [tmp_path / "lab", Path("/else")]
    assert settings.run == RunSettings(
        operator="me", sample="CdSe 12", position="dot 4", tags=("cold", "new")
    )
    assert settings.hooks.command == ("./tell.sh", "--short")
    assert (settings.hooks.on, settings.hooks.timeout) == (("done", "trip"), 5.0)


def test_the_nearest_file_counts(below: Path, tmp_path: Path) -> None:
    (tmp_path / "labctl.toml").write_text(WHOLE)
    (below / "labctl.toml").touch()
    assert load_settings().folder == below
    assert load_settings().roots == [below / "."]
    assert load_settings(tmp_path).folder == tmp_path


def test_no_file_means_defaults(below: Path) -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.folder, settings.roots) == (below, [])
    assert not settings.hooks.command
    assert "done" not in settings.hooks.on and "fail" in settings.hooks.on


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("paths = []", ["unknown setting 'paths'", "did you mean 'path'", "run"]),
        ("[run]\noperater = 'x'", ["unknown setting 'run.operater'", "did you mean 'operator'"]),
        ("[run]\nsample = 3", ["run.sample", "string", "got 3"]),
        ("[run]\ntags = ['two words']", ["run.tags", "'two words'", "one word"]),
        ("[run]\ntags = ['+x']", ["run.tags", "'+x'"]),
        ("[hooks]\ncommand = 'mail'", ["hooks.command", "got 'mail'"]),
        ("[hooks]\non = ['sometimes']", ["hooks.on.0", "'done'", "got 'sometimes'"]),
        ("[hooks]\ntimeout = '5 m'", ["hooks.timeout", "'5 m' is a length"]),
        ("[hooks]\ntimeout = 0", ["hooks.timeout", "greater than 0"]),
        ("path = 3 4", ["not a TOML file", "line 1"]),
    ],
)
def test_what_is_refused(below: Path, text: str, words: list[str]) -> None:
    (below / "labctl.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{below / 'labctl.toml'}: ")
    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_bytes_that_are_no_text_are_refused(below: Path) -> None:
    (below / "labctl.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not a TOML file"):
        load_settings()


def test_the_command_line_wins_and_adds_tags() -> None:
    settings = RunSettings(operator="me", sample="CdSe 12", tags=("cold",))
    changed = settings.replaced(sample="CdSe 13", tags=("new", "cold"))
    assert changed == RunSettings(operator="me", sample="CdSe 13", tags=("cold", "new"))
    with pytest.raises(SettingsError, match="tag 'a b'"):
        settings.replaced(tags=("a b",))
