"""`labctl list`: what can be run, with which parameters, on which benches."""

from __future__ import annotations

from typing import Any

from labctl.cli.output import print_json, print_table, print_text
from labctl.loading import experiment_files, list_configs
from labctl.runs.execute import find_experiment


def list_all(experiment: str | None, *, as_json: bool) -> None:
    """List one experiment, or all of them and the benches. Raises NotFound."""
    names = [experiment] if experiment else sorted(experiment_files())
    described = [_describe(name) for name in names]
    if as_json:
        print_json({"experiments": described, "benches": sorted(list_configs("benches"))})
        return
    for item in described:
        roles = ", ".join(f"{role} ({capability})" for role, capability in item["roles"].items())
        print_text(f"\n{item['name']}: {item['summary']}\n  roles: {roles}")
        rows = [[p["name"], p["default"], p["bounds"], p["description"]] for p in item["parameters"]]
        print_table("", ["parameter", "default", "bounds", "meaning"], rows)
    print_text(f"\nbenches: {', '.join(sorted(list_configs('benches')))}")


def _describe(name: str) -> dict[str, Any]:
    experiment = find_experiment(name)
    return {
        "name": name,
        "summary": experiment.summary(),
        "roles": {role: capability.__name__ for role, capability in experiment.roles.items()},
        "parameters": [vars(p) for p in experiment.describe_parameters()],
    }
