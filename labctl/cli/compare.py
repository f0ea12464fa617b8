"""`labctl diff` and `labctl explain`: what differs between two runs, and what led to a point."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from labctl.cli.output import print_json, print_table, print_text
from labctl.cli.runs import find_run
from labctl.errors import LabctlError
from labctl.quantities import format_quantity
from labctl.runs.execute import find_experiment
from labctl.store import RunData, open_run
from labctl.store.compare import Comparison, Difference, Part, compare_runs
from labctl.store.explain import Explanation, Step, explain, parse_point

_TEXTS = {"bench file", "experiment file"}


def diff_runs(first: str, second: str, *, root: Path, as_json: bool) -> None:
    """Print what differs between two runs, part by part, and which parts are identical."""
    one, other = (open_run(find_run(name, root)) for name in (first, second))
    comparison = compare_runs(one, other, _units(one))
    if as_json:
        shown = {part.name: [asdict(d) for d in part.differences] for part in comparison.differing}
        runs = [str(one.directory), str(other.directory)]
        print_json({"runs": runs, "differing": shown, "identical": comparison.identical})
        return
    print_text(f"- {one.directory}\n+ {other.directory}")
    _print_comparison(comparison)


def _units(data: RunData) -> dict[str, str]:
    """Units of the parameters, as far as the experiment is still known."""
    try:
        return {p.name: p.unit for p in find_experiment(data.experiment).describe_parameters()}
    except LabctlError:
        return {}


def _print_comparison(comparison: Comparison) -> None:
    for part in comparison.differing:
        print_text(f"\n{part.name}")
        for line in _lines(part):
            print_text(f"  {line}")
    print_text(f"\nidentical: {', '.join(comparison.identical) or 'nothing'}")


def _lines(part: Part) -> list[str]:
    if part.name not in _TEXTS:
        return [_line(difference) for difference in part.differences]
    return [
        f"{difference.name} {sign} {text}"
        for difference in part.differences
        for sign, text in (("-", difference.first), ("+", difference.second))
        if text is not None
    ]


def _line(difference: Difference) -> str:
    old, new = (_shown(value, difference.unit) for value in (difference.first, difference.second))
    apart = "" if difference.sigma is None else f"  ({difference.sigma:+.2f} σ)"
    return f"{difference.name}: {old} -> {new}{apart}"


def _shown(value: Any, unit: str) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, float):
        return format_quantity(value, unit, 6)
    return f"{value} {unit}".strip()


def explain_point(name: str, point: str, *, root: Path, as_json: bool) -> None:
    """Print everything that led to a committed point, in the order of bench time."""
    wanted = parse_point(point)
    data = open_run(find_run(name, root))
    explanation = explain(data, wanted)
    if as_json:
        print_json({"run": str(data.directory)} | asdict(explanation))
        return
    _print_explanation(data, explanation)


def _print_explanation(data: RunData, explanation: Explanation) -> None:
    since = "the beginning of the run" if explanation.begin_s is None else f"{explanation.begin_s:.6f} s"
    place = f"{explanation.sweep}:{explanation.index}:{explanation.attempt}"
    rows = [[_time(step), step.kind, step.what, _detail(step)] for step in explanation.steps]
    print_text(f"{data.directory}")
    print_table(f"point {place}, since {since}", ["bench time", "kind", "what", "detail"], rows)
    settings = [
        [f"{item.instrument}.{item.parameter}", _shown(item.value, item.unit), f"{item.bench_time_s:.6f} s"]
        for item in explanation.settings
    ]
    if settings:
        print_table("settings at its commit", ["parameter", "value", "set at"], settings)


def _time(step: Step) -> str:
    return "" if step.bench_time_s is None else f"{step.bench_time_s:.6f} s"


def _detail(step: Step) -> str:
    fields = step.fields
    if step.kind == "set":
        return f"{_shown(fields['old'], fields['unit'])} -> {_shown(fields['new'], fields['unit'])}"
    if step.kind == "commit":
        return ", ".join(f"{name} = {_shown(*pair)}" for name, pair in fields.items())
    return ", ".join(f"{name} = {_plain(value)}" for name, value in fields.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
