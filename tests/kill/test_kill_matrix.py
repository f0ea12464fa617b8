"""A short kill matrix: some cells, each once. `make kill-test` tries all of them many times."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("signals, pseudo-terminals and /proc are needed", allow_module_level=True)

from tests.kill.harness import run_trial
from tests.kill.matrix import run_all
from tests.kill.trial import UNGUARDED, Result, Trial
from tests.kill.world import World

CELLS = [
    Trial("gil", "acquiring"),
    Trial("sigstop", "moving"),
    Trial("deadlock", "writing"),
    Trial("deadlock", "paused"),
    Trial("guardian", "acquiring"),
    Trial("sigkill", "connecting"),
    Trial("sigkill", "moving"),
    Trial("sigkill", "acquiring"),
    Trial("sigkill", "writing"),
    Trial("sigkill", "finalising"),
    Trial("sigkill", "shutting_down", repeat=1),
    Trial("sigsegv", "acquiring"),
    Trial("os_exit", "paused"),
    Trial("sigint1", "acquiring"),
    Trial("sigint2", "moving"),
    Trial("sigint3", "acquiring"),
    Trial("sigterm", "connecting"),
    Trial("sighup", "paused"),
    Trial("terminal", "acquiring"),
    Trial("exception", "shutting_down"),
    Trial("memory_error", "writing"),
]
WORKERS = 4


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[Trial, Result]:
    """All cells, some at a time: a trial mostly waits."""
    folder = tmp_path_factory.mktemp("kill")
    return {result.trial: result for result in run_all(CELLS, folder, "", WORKERS)}


@pytest.mark.parametrize("trial", CELLS, ids=lambda trial: trial.key)
def test_nothing_is_lost_and_nothing_stays_on(trial: Trial, results: dict[Trial, Result]) -> None:
    result = results[trial]
    assert result.passed, "\n".join([*result.failures, f"evidence: {result.evidence}"])


def test_the_harness_sees_light_that_is_left_on(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    try:
        result = run_trial(Trial(UNGUARDED, "acquiring"), world, tmp_path / "trial", patience_s=2.0)
    finally:
        world.close()
    assert any(failure.startswith("still light") for failure in result.failures)
    assert any(failure.startswith("light is left on") for failure in result.failures)
