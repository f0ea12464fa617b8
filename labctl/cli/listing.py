"""`labctl list`: what can be run, with which parameters, on which benches."""

from __future__ import annotations

from typing import Any

from labctl.cli.output import print_json, print_table, print_text
from labctl.errors import LabctlError
from labctl.loading import experiment_files, list_configs
from labctl.runs.execute import find_experiment


def list_all(experiment: str | None, *, as_json: bool) -> None:
    """List one experiment, or all of them and the benches; one that is asked for must be sound.

    Raises NotFound or BrokenModule for it; among all, broken ones are listed as such.
    """
    described, broken = ([_describe(experiment)], {}) if experiment else _describe_all()
    if as_json:
        print_json({"experiments": described, "broken": broken, "benches": sorted(list_configs("benches"))})
        return
    for item in described:
        roles = ", ".join(f"{role} ({capability})" for role, capability in item["roles"].items())
        print_text(f"\n{item['name']}: {item['summary']}\n  roles: {roles}")
        rows = [[p["name"], p["default"], p["bounds"], p["description"]] for p in item["parameters"]]
        print_table("", ["parameter", "default", "bounds", "meaning"], rows)
    for name, problem in broken.items():
        print_text(f"\n{name}: cannot be used: {problem}")
    print_text(f"\nbenches: {', '.join(sorted(list_configs('benches')))}")


def _describe_all() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All sound experiments, and what is wrong with the others by name."""
    described, broken = [], {}
    for name in sorted(experiment_files()):
        try:
            described.append(_describe(name))
        except LabctlError as error:
            broken[name] = str(error)
    return described, broken


def _describe(name: str) -> dict[str, Any]:
    experiment = find_experiment(name)
    return {
        "name": name,
        "summary": experiment.summary(),
        "roles": {role: capability.__name__ for role, capability in experiment.roles.items()},
        "parameters": [vars(p) for p in experiment.describe_parameters()],
    }
