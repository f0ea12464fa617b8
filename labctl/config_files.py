"""YAML configuration files: read, validated by a pydantic model, with errors that give file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labctl.errors import LabctlError
from labctl.loading import nearest

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(LabctlError, ValueError):
    """A configuration file that cannot be used; the message is `file:line: what, and what is expected`."""


def load_model(path: Path, model: type[Model], overrides: dict[str, Any] | None = None) -> Model:
    """Read `path` and validate it as `model`.

    overrides: values by dotted path (`world.dot.tau_x_s`) that replace those of the file.
    Raises ConfigError.
    """
    document = _read_yaml(path)
    for dotted, value in (overrides or {}).items():
        _override(document, dotted, value, path)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_describe(error, document, path, model)) from error


def first_message(error: ValidationError) -> str:
    """The first complaint of a validation error, as one sentence without pydantic's prefixes."""
    message = str(error.errors()[0]["msg"])
    return message.removeprefix("Value error, ")


def _read_yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings")
    return document


def _override(document: Any, dotted: str, value: Any, path: Path) -> None:
    *parents, last = dotted.split(".")
    node = document
    for depth, key in enumerate(parents):
        if not isinstance(node, dict) or key not in node:
            known = node if isinstance(node, dict) else []
            raise ConfigError(f"{path}: no setting {'.'.join(parents[: depth + 1])!r}{nearest(key, known)}")
        node = node[key]
    if not isinstance(node, dict):
        raise ConfigError(f"{path}: {'.'.join(parents)!r} has no settings of its own")
    node[last] = value


def _describe(error: ValidationError, document: Any, path: Path, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    location = [part for part in first["loc"] if not str(part).startswith(("function-", "is-instance"))]
    name = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        key, known = str(location[-1]), _known_fields(model, location[:-1])
        message = f"unknown setting {name!r}{nearest(key, known)}"
    elif first["type"] == "missing":
        message = f"setting {name!r} is missing"
    else:
        message = f"{name}: {first_message(error)} (got {first['input']!r})"
    return f"{path}:{_line_of(document, location)}: {message}"


def _known_fields(model: Any, location: list[Any]) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        annotation = field.annotation if field else None
        arguments = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        model = annotation if hasattr(annotation, "model_fields") else next(iter(arguments), model)
    return list(getattr(model, "model_fields", {}))


def _line_of(document: Any, location: list[Any]) -> int:
    line, node = 1, document
    for part in location:
        try:
            position = node.lc.key(part) if isinstance(node, dict) else node.lc.item(part)
            line, node = position[0] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line
