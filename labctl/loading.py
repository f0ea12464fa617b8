"""Finding what a configuration names: drivers, simulators, experiments, bench and twin files.

A name such as `drivers.lasers.coherent_obis:CoherentObis` is looked for first in the user's own folders
(the `path` of a `labctl.toml` in the working directory or above it), then among the files that come
with labctl. Files are loaded by their place on disk, so a working directory with an `experiments/` of
its own never hides, and is never hidden by, the bundled one.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from labctl.errors import LabctlError, nearest
from labctl.settings import load_settings

SEARCH_PATH_VARIABLE = "LABCTL_PATH"
_PREFIX = "labctl_loaded_"


class NotFound(LabctlError, LookupError):
    """Nothing has this name; the message gives the nearest one and where it was looked for."""


class BrokenModule(LabctlError, ImportError):
    """A file of Python that was found, and raises an error when it is loaded."""


def bundled_root() -> Path:
    """The folder that holds the bundled `drivers/` and `experiments/`."""
    return Path(__file__).resolve().parent.parent


def bundled_configs() -> Path:
    """The folder of the bundled configuration files: beside labctl in a checkout, inside it in a wheel."""
    installed = Path(__file__).resolve().parent / "_configs"
    return installed if installed.is_dir() else bundled_root() / "configs"


def user_roots() -> list[Path]:
    """The user's own folders, first found first: the variable LABCTL_PATH, then `labctl.toml`."""
    roots = [Path(p) for p in os.environ.get(SEARCH_PATH_VARIABLE, "").split(os.pathsep) if p]
    return roots + load_settings().roots


def find_config(kind: str, name: str) -> Path:
    """The file of the bench or twin `name` (kind "benches" or "twins"); a path is taken as it is.

    Raises NotFound with the nearest name.
    """
    direct = Path(name)
    if direct.suffix in {".yaml", ".yml"}:
        if direct.is_file():
            return direct.resolve()
        raise NotFound(f"no file {direct}")
    available = list_configs(kind)
    if name in available:
        return available[name]
    raise NotFound(f"no {kind.removesuffix('es').removesuffix('s')} named {name!r}{nearest(name, available)}")


def list_configs(kind: str) -> dict[str, Path]:
    """All configuration files of a kind by name; the user's own win."""
    folders = [bundled_configs() / kind, *(root / "configs" / kind for root in reversed(user_roots()))]
    present = [folder for folder in folders if folder.is_dir()]
    return {file.stem: file for folder in present for file in sorted(folder.glob("*.y*ml"))}


def experiment_files() -> dict[str, Path]:
    """All experiment files by name; the user's own win."""
    folders = [bundled_root() / "experiments", *(root / "experiments" for root in reversed(user_roots()))]
    return {
        file.stem: file
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.glob("*.py"))
        if not file.stem.startswith("_")
    }


def load_object(spec: str) -> Any:
    """The object that `package.module:Name` names. Raises NotFound."""
    module_name, _, attribute = spec.partition(":")
    module = load_module(module_name)
    if not attribute:
        return module
    if not hasattr(module, attribute):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise NotFound(f"{module_name} has no {attribute!r}{nearest(attribute, names)}")
    return getattr(module, attribute)


def load_module(name: str) -> ModuleType:
    """The module `a.b.c`: from the user's folders, then the bundled files, then any installed package."""
    relative = Path(*name.split(".")).with_suffix(".py")
    for root in user_roots():
        if (root / relative).is_file():
            return load_file(root / relative)
    bundled = bundled_root() / relative
    if bundled.is_file() and not _importable_as(name, bundled):
        return load_file(bundled)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotFound(f"no module {name!r} in your folders, in labctl or installed ({error})") from error


def load_file(file: Path) -> ModuleType:
    """Load a Python file as a module of its own name, once. Raises NotFound, BrokenModule."""
    file = file.resolve()
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"{_PREFIX}{digest}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise NotFound(f"{file} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise BrokenModule(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
        raise
    return module


def loaded_user_files() -> list[Path]:
    """The files that were loaded so far and did not come with labctl."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    files = {Path(module.__file__) for module in modules if module.__file__}
    return sorted(file for file in files if not file.is_relative_to(bundled_root()))


def _importable_as(name: str, file: Path) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file.resolve()
