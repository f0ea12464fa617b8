"""Finding runs: by experiment, parameters, date, sample, tags, status and words, newest first."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from labctl.errors import nearest
from labctl.quantities import QuantityError, any_quantity, parse_quantity

from .errors import StoreError
from .index import open_index, summary_of
from .summary import RunSummary

_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*$")
_TOLERANCE = 1e-9
"""Relative difference of two numbers that are taken as equal."""
_TRUTHS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Condition:
    """What a parameter must be: `dwell > 10 s`, `basis = X`."""

    parameter: str
    comparison: str
    text: str


def parse_condition(text: str) -> Condition:
    """`dwell>10 s` as a condition. Raises StoreError with an example."""
    match = _CONDITION.fullmatch(text)
    if match is None or not match[3]:
        raise StoreError(
            f"condition {text!r}: write a parameter, one of < <= = != >= >, and a value: 'dwell>10 s'"
        )
    return Condition(match[1], match[2].replace("==", "="), match[3])


@dataclass(frozen=True)
class Query:
    """What runs must be; everything left out is left open.

    tags, text (words), where: all of them must hold. since, until: seconds since 1970, [since, until).
    limit: the newest so many, 0 for all.
    """

    experiment: str = ""
    sample: str = ""
    status: str = ""
    tags: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    since: float | None = None
    until: float | None = None
    limit: int = 0


class Catalogue:
    """The runs under `root` as they were when it was opened; close it, or use it as a context manager.

    tell: called with how many of the new or changed runs have been read, and how many there are.
    """

    def __init__(self, root: Path | str, tell: Callable[[int, int], None] = lambda done, total: None) -> None:
        self._root = Path(root)
        self._index = open_index(self._root, tell)

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search(self, query: Query = Query()) -> Iterator[RunSummary]:
        """The runs that fit, newest first. Raises StoreError or QuantityError for an impossible condition."""
        order = f"ORDER BY started DESC, name DESC LIMIT {query.limit or -1:d}"
        return map(summary_of, self._select("*", query, order))

    def count(self, query: Query = Query()) -> int:
        """How many runs fit, whatever the limit. Raises like `search`."""
        return int(next(self._select("count(*)", query, ""))[0])

    def _select(self, what: str, query: Query, order: str) -> Iterator[sqlite3.Row]:
        parts = [*_parts(query), *(self._parameter_part(condition) for condition in query.where)]
        clause = " AND ".join(f"({part.sql})" for part in parts) or "1"
        arguments = [argument for part in parts for argument in part.arguments]
        return self._index.execute(f"SELECT {what} FROM runs WHERE {clause} {order}", arguments)

    def _parameter_part(self, condition: Condition) -> _Part:
        path = _path(condition.parameter)
        meanings = _meanings(condition, self._units_of(condition.parameter))
        if meanings is None:
            return _text_part(path, condition)
        parts = [_number_part(path, condition.comparison, value, unit) for unit, value in meanings.items()]
        return _Part(" OR ".join(part.sql for part in parts), sum((part.arguments for part in parts), ()))

    def _units_of(self, parameter: str) -> list[str]:
        """The SI units that runs give for a parameter. Raises StoreError when no run has it."""
        having = "FROM runs WHERE json_type(parameters, ?) IS NOT NULL"
        units = self._index.execute(
            f"SELECT DISTINCT json_extract(units, ?) {having}", [_path(parameter)] * 2
        ).fetchall()
        if not units:
            rows = self._index.execute("SELECT DISTINCT key FROM runs, json_each(runs.parameters)")
            hint = nearest(parameter, [name for (name,) in rows])
            raise StoreError(f"no run in {self._root} has a parameter {parameter!r}{hint}")
        return [unit for (unit,) in units if unit is not None]


@dataclass(frozen=True)
class _Part:
    """A part of a WHERE clause and its arguments."""

    sql: str
    arguments: tuple[Any, ...]


def _parts(query: Query) -> Iterator[_Part]:
    """Everything but the parameters."""
    for column in ("experiment", "sample", "status"):
        if wanted := getattr(query, column):
            yield _Part(f"{column} = ?", (wanted,))
    for tag in query.tags:
        yield _Part("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)", (tag,))
    for word in query.text:
        yield _Part("instr(words, ?)", (word.casefold(),))
    if query.since is not None:
        yield _Part("started >= ?", (query.since,))
    if query.until is not None:
        yield _Part("started < ?", (query.until,))


def _path(parameter: str) -> str:
    return f'$."{parameter}"'


def _text_part(path: str, condition: Condition) -> _Part:
    return _Part(
        f"json_type(parameters, ?) = 'text' AND json_extract(parameters, ?) {condition.comparison} ?",
        (path, path, condition.text),
    )


def _number_part(path: str, comparison: str, value: float, unit: str) -> _Part:
    """A number in the unit, or a number of a run that does not say in which unit it is."""
    if comparison in ("=", "!="):
        margin = abs(value) * _TOLERANCE
        comparison = "BETWEEN ? AND ?" if comparison == "=" else "NOT BETWEEN ? AND ?"
        numbers: tuple[float, ...] = (value - margin, value + margin)
    else:
        comparison, numbers = f"{comparison} ?", (value,)
    return _Part(
        "json_type(parameters, ?) IN ('integer', 'real', 'true', 'false') "
        f"AND json_extract(parameters, ?) {comparison} AND coalesce(json_extract(units, ?), ?) = ?",
        (path, path, *numbers, path, unit, unit),
    )


def _meanings(condition: Condition, units: list[str]) -> dict[str, float] | None:
    """SI value of the condition by the unit that it then has; None when it is a text to compare with.

    Raises QuantityError when it is a quantity of another dimension than the parameter.
    """
    text = condition.text
    if text in _TRUTHS:
        return dict.fromkeys(units or [""], _TRUTHS[text])
    try:
        value, unit = any_quantity(text)
    except QuantityError:
        if condition.comparison in ("=", "!="):
            return None
        raise
    if not units:
        return {unit: value}
    meanings, refusal = {}, None
    for known in units:
        try:
            meanings[known] = parse_quantity(text, known)
        except QuantityError as error:
            refusal = error
    if not meanings and refusal is not None:
        raise QuantityError(f"{condition.parameter}: {refusal}")
    return meanings

