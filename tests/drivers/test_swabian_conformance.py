"""The simulated library against the vendor's: what the driver and users call has the same shape."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from drivers.taggers.sim import swabian_api
from drivers.taggers.swabian_blocks import StreamBuffer

real = pytest.importorskip("Swabian.TimeTagger", reason="Swabian-TimeTagger is not installed")
ours = swabian_api.connect("127.0.0.1", 1)

FUNCTIONS = ["createTimeTagger", "freeTimeTagger", "scanTimeTagger", "getVersion"]
CLASSES = ["TimeTagger", "TimeTagStream", "TimeTagStreamBuffer", "Countrate", "Counter", "IteratorBase"]
BUFFER_FIELDS = ["size", "hasOverflows", "tStart", "tGetData"]


def public(cls: type) -> list[str]:
    names = [name for name, value in inspect.getmembers(cls, callable) if not name.startswith("_")]
    return [*names, "__init__"]


METHODS = [(c, m) for c in CLASSES for m in public(getattr(ours, c)) if (c, m) != ("TimeTagger", "__init__")]
METHODS = [(c, m) for c, m in METHODS if c not in ("IteratorBase", "TimeTagStreamBuffer") or m != "__init__"]


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults; None where the vendor's wrapper hides them and the documentation is silent."""
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    hidden = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values())
    if hidden:
        documented = dict.fromkeys(re.findall(r":param (\w+):", function.__doc__ or ""))
        return {name: _default(name, function.__doc__ or "") for name in documented}
    return found


def _default(name: str, documentation: str) -> Any:
    optional = re.search(rf":type {name}: [^\n]*optional", documentation)
    return ... if optional else inspect.Parameter.empty


def same_shape(mine: dict[str, Any], vendors: dict[str, Any]) -> None:
    assert list(mine) == list(vendors)
    for name, default in vendors.items():
        if default is ...:
            assert mine[name] is not inspect.Parameter.empty, f"{name} must be optional"
        else:
            assert mine[name] == default, f"default of {name}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    same_shape(parameters(getattr(ours, name)), parameters(getattr(real, name)))


@pytest.mark.parametrize(("cls", "method"), METHODS)
def test_methods(cls: str, method: str) -> None:
    vendors = getattr(getattr(real, cls), method)
    same_shape(parameters(getattr(getattr(ours, cls), method)), parameters(vendors))


def test_measurements_are_iterators() -> None:
    for name in ("TimeTagStream", "Countrate", "Counter"):
        assert issubclass(getattr(real, name), real.IteratorBase)
        assert issubclass(getattr(ours, name), ours.IteratorBase)


def test_fields_of_a_buffer() -> None:
    for field in BUFFER_FIELDS:
        assert isinstance(getattr(real.TimeTagStreamBuffer, field), property)
    used = [name for name in vars(StreamBuffer) if name.startswith("get")]
    assert len(used) == 4 and all(hasattr(real.TimeTagStreamBuffer, name) for name in used)


@pytest.mark.parametrize("name", ["Resolution", "TagType", "ChannelEdge"])
def test_enumerations(name: str) -> None:
    mine: type[enum.IntEnum] = getattr(ours, name)
    vendors = getattr(real, name)
    for member in mine:
        assert vendors[member.name] == int(member)  # the driver compares with plain integers
    assert {m.name for m in vendors} <= {m.name for m in mine}


def test_the_unused_channel() -> None:
    assert ours.CHANNEL_UNUSED == real.CHANNEL_UNUSED


def test_every_method_that_the_driver_calls_exists() -> None:
    from drivers.taggers import swabian_timetagger

    source = inspect.getsource(swabian_timetagger)
    methods = set(re.findall(r'_ask\(\s*"(\w+)"', source))
    assert {"setTriggerLevel", "setConditionalFilter", "getChannelList", "reset"} <= methods
    for name in methods:
        assert callable(getattr(real.TimeTagger, name)) and callable(getattr(ours.TimeTagger, name))
    for name in set(re.findall(r"self\._library\.(\w+)", source)):
        assert hasattr(real, name) and hasattr(ours, name)
