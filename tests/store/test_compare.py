"""Differences between runs: found where they are, and only there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from labctl.store import RunData, RunWriter, open_run
from labctl.store.compare import Difference, compare_runs

HEADER: dict[str, Any] = {
    "parameters": {"dwell": 30.0, "field": 1e9, "shuffle": True},
    "bench_text": "bench: b\nlaser: {power: 1 mW}\nmeter: {}\n",
    "bench_values": {"mir_rate_hz": 1000.0},
    "identities": {"laser": "Coherent OBIS, s/n 1"},
    "seed": 3,
    "operator": "first shift",
    "packages": {"numpy": "2.0"},
    "git_diff_sha256": "",
    "calibrations": {"delay_zero": {"value": 5.1e-6, "error": 1e-9, "unit": "s", "made_at": "2026-01-01"}},
}
SNAPSHOT = {"laser": {"power": {"value": 1e-3, "unit": "W"}, "state": {"value": "off", "unit": ""}}}
ESTIMATE = {"quantity": "g2_0", "value": 0.10, "error_low": 0.03, "error_high": 0.04, "unit": ""}


def make_run(
    root: Path,
    snapshot: dict[str, Any] = SNAPSHOT,
    estimates: list[dict[str, Any]] | None = None,
    status: str = "success",
    **changes: Any,
) -> RunData:
    writer = RunWriter.create(root, "hbt", HEADER | changes)
    writer.snapshot("before", snapshot)
    data = open_run(writer.finish(status))
    data.header.update(HEADER | changes)  # also what the machine knows by itself
    if estimates is not None:
        (data.directory / "estimates.json").write_text(json.dumps({"estimates": estimates}))
    return data


def differing(first: RunData, second: RunData, **options: Any) -> dict[str, list[Difference]]:
    return {part.name: part.differences for part in compare_runs(first, second, **options).differing}


def test_a_run_and_its_repetition_are_identical(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, estimates=[ESTIMATE]) for _ in range(2)]
    comparison = compare_runs(*runs)
    assert comparison.differing == []
    assert {"parameters", "bench file", "estimates", "calibrations", "packages"} <= set(comparison.identical)


def test_parameters_differ_with_their_unit(tmp_path: Path) -> None:
    other = {"dwell": 60.0, "field": 1e9, "shuffle": 1, "new": 2}
    found = differing(make_run(tmp_path), make_run(tmp_path, parameters=other), units={"dwell": "s"})
    assert found == {
        "parameters": [
            Difference("dwell", 30.0, 60.0, "s"),
            Difference("shuffle", True, 1),
            Difference("new", None, 2),
        ]
    }


def test_only_changed_lines_of_the_bench_file_are_told(tmp_path: Path) -> None:
    text = "bench: b\nlaser: {power: 2 mW}\nmeter: {}\ntagger: {}\n"
    found = differing(make_run(tmp_path), make_run(tmp_path, bench_text=text))
    assert found == {
        "bench file": [
            Difference("line 2", "laser: {power: 1 mW}", "laser: {power: 2 mW}"),
            Difference("line 4", None, "tagger: {}"),
        ]
    }


def test_settings_at_the_beginning(tmp_path: Path) -> None:
    found = differing(
        make_run(tmp_path, {"laser": {"power": {"value": math.nan, "unit": "W"}, "state": "off"}}),
        make_run(tmp_path, {"laser": {"power": {"value": math.nan, "unit": "W"}, "state": "on"}}),
    )
    assert found == {"instrument settings": [Difference("laser.state", "off", "on")]}
    found = differing(make_run(tmp_path), make_run(tmp_path, {}))
    assert Difference("laser.power", 1e-3, None, "W") in found["instrument settings"]


@pytest.mark.parametrize(
    ("part", "name", "changes"),
    [
        ("identities", "laser", {"identities": {"laser": "Coherent OBIS, s/n 2"}}),
        ("code", "git_diff_sha256", {"git_diff_sha256": "ab"}),
        ("packages", "numpy", {"packages": {"numpy": "2.1"}}),
        ("circumstances", "seed", {"seed": 4}),
        ("circumstances", "operator", {"operator": "second shift"}),
        ("circumstances", "status", {"status": "abort"}),
        ("calibrated values", "mir_rate_hz", {"bench_values": {"mir_rate_hz": 999.0}}),
        ("experiment file", "line 1", {"experiment_text": "class Hbt: ..."}),
    ],
)
def test_other_parts(tmp_path: Path, part: str, name: str, changes: dict[str, Any]) -> None:
    found = differing(make_run(tmp_path), make_run(tmp_path, **changes))
    assert [(p, [d.name for d in ds]) for p, ds in found.items()] == [(part, [name])]


def test_another_calibration_is_told_with_its_error_and_date(tmp_path: Path) -> None:
    used = {"delay_zero": {"value": 5.2e-6, "error": 1e-9, "unit": "s", "made_at": "2026-02-01"}}
    (difference,) = differing(make_run(tmp_path), make_run(tmp_path, calibrations=used))["calibrations"]
    assert difference.first == "5.1e-06 ± 1e-09 s, made 2026-01-01"
    assert difference.second == "5.2e-06 ± 1e-09 s, made 2026-02-01"


def test_estimates_differ_in_units_of_the_errors_that_face_each_other(tmp_path: Path) -> None:
    first = make_run(tmp_path, estimates=[ESTIMATE])
    higher = ESTIMATE | {"value": 0.20, "error_low": 0.03, "error_high": 0.9}
    (up,) = differing(first, make_run(tmp_path, estimates=[higher]))["estimates"]
    assert up.sigma == pytest.approx(0.1 / 0.05)
    (down,) = differing(make_run(tmp_path, estimates=[higher]), first)["estimates"]
    assert down.sigma == pytest.approx(-0.1 / 0.05)
    (gone,) = differing(first, make_run(tmp_path, estimates=[]))["estimates"]
    assert (gone.first, gone.second, gone.sigma) == (0.10, None, None)
