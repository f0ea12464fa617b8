"""What differs between two runs: parameters, bench, settings, code, packages, calibrations, people, results.

Every part is compared from what the runs themselves recorded, so the comparison needs neither bench nor code.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from .reader import RunData
from .snapshots import Reading, readings

_CODE = (
    *("git_commit", "git_diff_sha256", "user_git_commit", "user_git_diff_sha256", "experiment_file"),
    *("experiment_sha256", "schema_version"),
)
_CIRCUMSTANCES = ("seed", "operator", "sample", "position", "tags", "bench", "host", "platform", "status")

_Estimates = dict[str, dict[str, Any]]
"""Rows of `estimates.json` by quantity."""


@dataclass(frozen=True)
class Difference:
    """One thing that differs: its values in both runs, None where a run has none.

    unit: SI unit of the values, "" if there is none. sigma: for estimates, (second - first) over the error
    of this difference.
    """

    name: str
    first: Any
    second: Any
    unit: str = ""
    sigma: float | None = None


@dataclass(frozen=True)
class Part:
    """One part of the runs and what differs in it."""

    name: str
    differences: list[Difference]


@dataclass(frozen=True)
class Comparison:
    """All parts of two runs, in the order in which they are told."""

    parts: list[Part] = field(default_factory=list)

    @property
    def differing(self) -> list[Part]:
        """The parts in which something differs."""
        return [part for part in self.parts if part.differences]

    @property
    def identical(self) -> list[str]:
        """Names of the parts in which nothing differs."""
        return [part.name for part in self.parts if not part.differences]


def compare_runs(first: RunData, second: RunData, units: Mapping[str, str] | None = None) -> Comparison:
    """Compare two runs. units: SI units of the parameters by name, as far as they are known."""
    one, other = first.header, second.header
    compared: dict[str, Iterable[Difference]] = {
        "experiment": _of_mappings({"experiment": first.experiment}, {"experiment": second.experiment}),
        "parameters": _of_mappings(first.parameters, second.parameters, units),
        "bench file": _of_texts(one.get("bench_text"), other.get("bench_text")),
        "calibrated values": _of_mappings(one.get("bench_values"), other.get("bench_values")),
        "calibrations": _of_mappings(_calibrations(one), _calibrations(other)),
        "instrument settings": _of_settings(first, second),
        "identities": _of_mappings(one.get("identities"), other.get("identities")),
        "code": _of_mappings(_chosen(one, _CODE), _chosen(other, _CODE)),
        "experiment file": _of_texts(one.get("experiment_text"), other.get("experiment_text")),
        "packages": _of_mappings(_packages(one), _packages(other)),
        "circumstances": _of_mappings(_circumstances(first), _circumstances(second)),
        "estimates": _of_estimates(_estimates(first), _estimates(second)),
    }
    return Comparison([Part(name, list(differences)) for name, differences in compared.items()])


def _of_mappings(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None, units: Mapping[str, str] | None = None
) -> Iterator[Difference]:
    """Keys in the order of the first mapping, then those that only the second has."""
    one, other, known = first or {}, second or {}, units or {}
    for name in dict.fromkeys((*one, *other)):
        if not _same(one.get(name), other.get(name)):
            yield Difference(name, one.get(name), other.get(name), known.get(name, ""))


def _same(first: Any, second: Any) -> bool:
    """Equal, NaN to NaN and 1 to 1.0 too, but True not to 1."""
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first) and math.isnan(second):
        return True
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _of_texts(first: str | None, second: str | None) -> Iterator[Difference]:
    """Changed lines in pairs, each named by its place."""
    one, other = (first or "").splitlines(), (second or "").splitlines()
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for kind, begin, end, new_begin, new_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        for number, pair in enumerate(zip_longest(one[begin:end], other[new_begin:new_end])):
            yield Difference(f"line {begin + number + 1}", *pair)


def _of_settings(first: RunData, second: RunData) -> Iterator[Difference]:
    one, other = (readings(data.snapshots.get("before", {})) for data in (first, second))
    nothing = Reading(None)
    for key in dict.fromkeys((*one, *other)):
        old, new = one.get(key, nothing), other.get(key, nothing)
        if not _same(old.value, new.value):
            yield Difference(".".join(key), old.value, new.value, old.unit or new.unit)


def _chosen(header: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: header.get(name) for name in names}


def _packages(header: Mapping[str, Any]) -> dict[str, str]:
    return {**header.get("versions", {}), **header.get("packages", {})}


def _circumstances(data: RunData) -> dict[str, Any]:
    return _chosen({**data.header, "status": data.status}, _CIRCUMSTANCES)


def _calibrations(header: Mapping[str, Any]) -> dict[str, Any]:
    """The calibrations that a run used, each without what does not tell values apart."""
    return {name: _told(used) for name, used in (header.get("calibrations") or {}).items()}


def _told(used: Mapping[str, Any]) -> Any:
    value, error = used.get("value"), used.get("error")
    shown = f"{value} ± {error}" if error is not None else f"{value}"
    return f"{shown} {used.get('unit', '')}".strip() + f", made {used.get('made_at')}"


def _estimates(data: RunData) -> _Estimates:
    file = data.directory / "estimates.json"
    if not file.is_file():
        return {}
    return {row["quantity"]: row for row in json.loads(file.read_text(encoding="utf-8"))["estimates"]}


def _of_estimates(first: _Estimates, second: _Estimates) -> Iterator[Difference]:
    for name in dict.fromkeys((*first, *second)):
        one, other = first.get(name), second.get(name)
        if one is None or other is None:
            present = one or other or {}
            yield Difference(name, one and one["value"], other and other["value"], present["unit"])
        elif not _same(one["value"], other["value"]):
            yield Difference(name, one["value"], other["value"], one["unit"], _sigma(one, other))


def _sigma(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """With the errors of the sides on which the two estimates face each other."""
    difference = float(second["value"] - first["value"])
    lower, upper = (first, second) if difference > 0 else (second, first)
    error = math.hypot(lower["error_high"], upper["error_low"])
    return difference / error if error > 0 else math.copysign(math.inf, difference)
