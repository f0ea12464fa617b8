"""The judge judged: lost and invented records are seen, tables and distributions are right."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("signals, pseudo-terminals and /proc are needed", allow_module_level=True)

from labctl.store import RunWriter
from labctl.timetags import TagBlock
from tests.kill import distributions, latency, matrix
from tests.kill.acknowledged import block_summary
from tests.kill.disk import check_disk
from tests.kill.trial import DEATHS, HANGS, KINDS, LIT, PHASES, RAISING, Result, Trial, all_trials
from tests.kill.victim import Orders

CRASH = Trial("sigkill", "acquiring")
VALUES: dict[str, Any] = {"delay": 1.5e-9, "reference": False, "counts": 12}


def make_run(root: Path, log: Path, *, acknowledge: int, intend: int) -> None:
    """A crashed run of three rows and blocks, and a log that knows of other numbers of them."""
    entries: list[dict[str, Any]] = []
    with RunWriter.create(root, "kill_me", {}) as writer:
        acquisition = writer.begin_acquisition({1: "A"}, "points", 0, 0.0)
        for n in range(3):
            block = TagBlock(np.array([10 * n + 1, 10 * n + 5]), np.array([1, 1]), 10 * n, 10 * n + 10)
            writer.tags(acquisition, block)
            writer.row("points", n, 0, VALUES, {"delay": "s"}, float(n))
        writer.flush()
    for n in range(max(acknowledge, intend)):
        block = TagBlock(np.array([10 * n + 1, 10 * n + 5]), np.array([1, 1]), 10 * n, 10 * n + 10)
        records = [
            {"kind": "row", "sweep": "points", "index": n, "attempt": 0, "values": VALUES},
            {"kind": "tags", "acquisition": acquisition, **block_summary(block)},
        ]
        entries += [{"what": "intended", **record} for record in records if n < intend]
        entries += [{"what": "acknowledged", **record} for record in records if n < acknowledge]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def test_a_whole_run_passes(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", tmp_path / "log", acknowledge=2, intend=3)
    assert check_disk(CRASH, tmp_path / "runs", tmp_path / "log") == []


def test_a_lost_record_is_seen(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", tmp_path / "log", acknowledge=4, intend=4)
    failures = check_disk(CRASH, tmp_path / "runs", tmp_path / "log")
    assert [failure.split(":")[1] for failure in failures] == [" lost"] * 4  # row and block, before and after
    assert all('"index": 3' in failure or '"begin_ps": 30' in failure for failure in failures)


def test_an_invented_record_is_seen(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", tmp_path / "log", acknowledge=2, intend=2)
    failures = check_disk(CRASH, tmp_path / "runs", tmp_path / "log")
    assert [failure.split(":")[1] for failure in failures] == [" garbage"] * 4


def test_a_wrong_end_is_seen(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", tmp_path / "log", acknowledge=3, intend=3)
    (failure,) = check_disk(Trial("sigint2", "acquiring"), tmp_path / "runs", tmp_path / "log")
    assert failure.startswith("status 'crashed'") and "abort" in failure


def test_no_run_is_seen(tmp_path: Path) -> None:
    assert check_disk(CRASH, tmp_path / "runs", tmp_path / "log") == [
        f"0 runs instead of one under {tmp_path / 'runs'}"
    ]
    assert check_disk(Trial("sigkill", "connecting"), tmp_path / "runs", tmp_path / "log") == []


def test_every_cell_is_tried_equally_often() -> None:
    trials = list(all_trials(3))
    cells = len(KINDS) * (len(PHASES) - 1) + len(RAISING)  # who watches a run can only raise in it
    assert len(trials) == len(set(trials)) == 3 * cells
    assert {trial.repeat for trial in trials[:cells]} == {0}
    assert {trial.place for trial in all_trials(20) if trial.phase == "shutting_down"} == {0, 1, 2, 3}


def test_orders_and_results_survive_as_text() -> None:
    orders = Orders(CRASH, "bench.yaml", "runs", "log", 3, 4)
    assert Orders.from_text(orders.to_text()) == orders
    result = Result(CRASH, ["too light"], dark_s=0.1, limit_s=0.2, commit="abc")
    assert Result.from_json(json.loads(json.dumps(result.to_json()))).trial == CRASH
    assert not result.passed and Result(CRASH).passed


def test_results_of_another_commit_do_not_count(tmp_path: Path) -> None:
    file = matrix.results_file(tmp_path)
    lines = [json.dumps(Result(CRASH, commit=commit).to_json()) for commit in ("old", "new")]
    file.write_text("\n".join(lines) + '\n{"trial": {"kin', encoding="utf-8")
    assert [result.commit for result in matrix.read_results(file, "new")] == ["new"]
    assert matrix.read_results(tmp_path / "none", "new") == []


def test_the_table_counts_passes() -> None:
    results = [Result(CRASH), Result(CRASH, ["too light"], evidence="/there"), Result(Trial("gil", "paused"))]
    lines = {line.split()[0]: line.split()[1:] for line in matrix.table(results).splitlines()[1:]}
    assert lines["sigkill"][PHASES.index("acquiring")] == "1/2"
    assert lines["gil"][PHASES.index("paused")] == "1/1"
    assert lines["sigterm"] == ["-"] * len(PHASES)
    assert matrix.failures(results) == "sigkill-acquiring-0: /there\n    too light\n"


def test_quantiles_and_verdict() -> None:
    values = [n / 100 for n in range(1, 101)]
    assert [distributions.quantile(values, q) for q in (0.5, 0.99, 1.0)] == [0.5, 0.99, 1.0]
    assert latency.verdict([0.1] * 99 + [1.9], [0.4]) == []
    assert latency.verdict([0.1] * 98 + [0.6] * 2, []) == ["death to dark: p99 above 0.5 s"]
    assert latency.verdict([0.1] * 199 + [2.1], [0.6]) == [
        "death to dark: worst above 2 s",
        "hang to dark: more than 0.5 s beyond its limit",
    ]
    assert "p50 500 ms" in distributions.distribution("dark", values)
    assert sum(int(line.split()[2]) for line in distributions.histogram(values).splitlines()) == 100


def test_what_never_got_dark_counts_as_infinite() -> None:
    hang = Trial("gil", "moving")
    results = [Result(CRASH), Result(hang, dark_s=2.5, limit_s=2.0), Result(hang)]
    assert distributions.deaths(results) == [math.inf]
    assert distributions.hangs(results) == [0.5, math.inf]


def test_the_series_has_all_phases_with_light() -> None:
    trials = latency.series(200)
    assert len(set(trials)) == 200
    kinds = [trial.kind for trial in trials]
    assert sum(kind in DEATHS for kind in kinds) == 150 and min(map(kinds.count, HANGS)) == 16
    assert {trial.phase for trial in trials} == set(LIT)
