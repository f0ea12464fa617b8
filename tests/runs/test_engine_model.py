"""The engine through random sequences of incidents; the long version is tests/campaigns/engine_model.py."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.runs.engine_model import EngineModel


def test_no_sequence_of_incidents_breaks_a_rule():
    options = settings(
        max_examples=200, stateful_step_count=3, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    run_state_machine_as_test(EngineModel, settings=options)
