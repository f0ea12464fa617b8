"""YAML configuration files: read, validated by a pydantic model, with errors that give file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labctl.errors import LabctlError
from labctl.loading import nearest

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[int | str]


class ConfigError(LabctlError, ValueError):
    """A configuration file that cannot be used; the message is `file:line: what, and what is expected`."""


def load_model(path: str | Path, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """Read `path` and validate it as `model`.

    overrides: values by dotted path (`world.dot.tau_x_s`) that replace those of the file.
    Raises ConfigError.
    """
    path = Path(path)
    document = _read_yaml(path)
    try:
        loaded = model.model_validate(_plain(document))
    except ValidationError as error:
        location, complaint = _explain(error, model)
        raise ConfigError(f"{path}:{_line_of(document, location)}: {complaint}") from error
    return with_overrides(loaded, overrides) if overrides else loaded


def with_overrides(config: Model, overrides: Mapping[str, Any]) -> Model:
    """A copy with other values by dotted path. Raises ConfigError for a path or a value that cannot be."""
    tree = config.model_dump()
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        node: Any = tree
        for part in parents:
            node = node[_key(node, part, dotted)]
        node[_key(node, last, dotted)] = value
    try:
        return type(config).model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"override {_explain(error, type(config))[1]}") from error


def first_message(error: ValidationError) -> str:
    """The first complaint of a validation error, as one sentence without pydantic's prefixes."""
    message = str(error.errors()[0]["msg"])
    return message.removeprefix("Value error, ")


def _read_yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML text: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings")
    return document


def _plain(node: Any) -> Any:
    """Ordinary dicts and lists instead of those that remember their lines."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return node


def _key(node: Any, part: str, dotted: str) -> Any:
    """The key of `node` that is written `part`: keys may be numbers, as those of channels are."""
    if not isinstance(node, dict):
        raise ConfigError(f"override {dotted!r}: {part!r} is inside a single value")
    by_text = {str(key): key for key in node}
    if part not in by_text:
        raise ConfigError(f"override {dotted!r}: no setting {part!r}{nearest(part, by_text)}")
    return by_text[part]


def _explain(error: ValidationError, model: type[BaseModel]) -> tuple[Location, str]:
    """Where the first complaint is, and the complaint."""
    first = error.errors()[0]
    location = [part for part in first["loc"] if not str(part).startswith(("function-", "is-instance"))]
    name = ".".join(map(str, location))
    if first["type"] == "extra_forbidden":
        known = _known_fields(model, location[:-1])
        return location, f"unknown setting {name!r}{nearest(str(location[-1]), known)}"
    if first["type"] == "missing":
        return location, f"setting {name!r} is missing"
    given = "" if isinstance(first["input"], dict | list) else f" (got {first['input']!r})"
    return location, (f"{name}: " if name else "") + first_message(error) + given


def _known_fields(model: Any, location: Location) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        annotation = field.annotation if field else None
        arguments = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        model = annotation if hasattr(annotation, "model_fields") else next(iter(arguments), model)
    return list(getattr(model, "model_fields", {}))


def _line_of(node: Any, location: Location) -> int:
    line = 1
    for part in location:
        try:
            position = (node.lc.key if hasattr(node, "keys") else node.lc.item)(part)
            line, node = position[0] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line
