"""At speed 1 the bench clock of a twin is wall time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from labctl.store import open_run
from tests.system.conftest import run_labctl


def test_speed_one_takes_as_long_as_the_measurement(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    result = run_labctl(tmp_path, "demo", "--speed", "1", "--duration", "20", "--json")
    assert time.monotonic() - begin_s >= 20.0
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    live_ps = [a.live_time_ps for file in result.run_files for a in open_run(file).acquisitions]
    assert sum(live_ps) == pytest.approx(20e12, rel=0.05)
