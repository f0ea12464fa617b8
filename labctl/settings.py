"""The settings of a user's folder: one `labctl.toml` in the working directory or above it.

```toml
path = ["."]                        # folders with drivers/, experiments/ and configs/ of one's own

[run]                               # what is written into every run
operator = "your name"
sample = "CdSe 12"
position = "dot 4, (12, 31) um"
tags = ["cold"]

[hooks]                             # who is told when something happens to a run
command = ["./tell.sh", "--short"]
on = ["fail", "abort", "trip"]
timeout = "30 s"
```

Without a file everything has its default. Relative paths, that of the hook's command included, start in
the folder of the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from labctl.errors import LabctlError, nearest
from labctl.quantities import Seconds

FILE = "labctl.toml"
HookEvent = Literal["done", "fail", "abort", "trip", "low_disk", "guardian"]


def check_tag(tag: str) -> None:
    """ValueError for a text that cannot be a tag of a run."""
    if not tag or tag != "".join(tag.split()) or tag[0] in "+-":
        raise ValueError(f"tag {tag!r}: a tag is one word that begins neither with + nor with -")


class SettingsError(LabctlError, ValueError):
    """A `labctl.toml` that cannot be used; the message names the file and the setting."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(_Section):
    """Who measures what, as written into every run."""

    operator: str = ""
    sample: str = ""
    position: str = ""
    tags: tuple[str, ...] = ()

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        for tag in tags:
            check_tag(tag)
        return tuple(dict.fromkeys(tags))

    def replaced(
        self, *, operator: str = "", sample: str = "", position: str = "", tags: tuple[str, ...] = ()
    ) -> RunSettings:
        """A copy with what is given instead, and with more tags. Raises SettingsError for an unusable tag."""
        changed = {"operator": operator, "sample": sample, "position": position}
        given = {name: text for name, text in changed.items() if text}
        try:
            return RunSettings(**{**self.model_dump(), **given, "tags": (*self.tags, *tags)})
        except ValidationError as error:
            raise SettingsError(_explain(error)) from error


class HookSettings(_Section):
    """What is called when something happens to a run; an empty command calls nothing."""

    command: tuple[str, ...] = ()
    on: tuple[HookEvent, ...] = ("fail", "abort", "trip", "low_disk", "guardian")
    timeout: Seconds = Field(default=30.0, gt=0, le=600)


class Settings(_Section):
    """All of `labctl.toml`."""

    path: tuple[str, ...] = (".",)
    run: RunSettings = RunSettings()
    hooks: HookSettings = HookSettings()
    _folder: Path | None = PrivateAttr(None)

    def model_post_init(self, context: Any) -> None:
        """Remember the folder of the file."""
        self._folder = context["folder"] if context else None

    @property
    def folder(self) -> Path:
        """The folder of the file; the working directory when there is none."""
        return self._folder or Path.cwd()

    @property
    def roots(self) -> list[Path]:
        """The user's own folders, first found first; none without a file."""
        return [self._folder / entry for entry in self.path] if self._folder else []


def load_settings(start: Path | None = None) -> Settings:
    """The settings that hold in the folder `start` (the working directory if left out).

    Raises SettingsError in one line, with file and setting.
    """
    file = settings_file(start or Path.cwd())
    if file is None:
        return Settings()
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        return Settings.model_validate(settings, context={"folder": file.parent})
    except ValidationError as error:
        raise SettingsError(f"{file}: {_explain(error)}") from error
    except ValueError as error:  # neither TOML nor, perhaps, text
        raise SettingsError(f"{file}: not a TOML file: {error}") from error
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror})") from error


def settings_file(start: Path) -> Path | None:
    """The nearest `labctl.toml` in `start` or above it."""
    folder = start.absolute()
    return next((f / FILE for f in (folder, *folder.parents) if (f / FILE).is_file()), None)


def _explain(error: ValidationError) -> str:
    """The first complaint: which setting, what is wrong with it."""
    first = error.errors()[0]
    *sections, last = (str(part) for part in first["loc"])
    name = ".".join([*sections, last])
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name!r}{nearest(last, _known(sections))}"
    return f"{name}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"


def _known(sections: list[str]) -> list[str]:
    fields: dict[str, Any] = Settings.model_fields
    for section in sections:
        fields = fields[section].annotation.model_fields
    return list(fields)
