"""What the how-to pages on scans and interlocks show is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from labctl.bench.watch_config import DetectorGuardConfig, InterlockConfig, MonitorConfig, slope_of, value_of

CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = {"cryostat.temperature": "K", "power_meter.power": "W"}


def blocks(page: str, language: str) -> list[str]:
    text = (CHECKOUT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_scans(number: int) -> None:
    code = blocks("scans.md", "python")[number]
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=CHECKOUT, check=True, timeout=60)


def test_sections_of_a_bench_file() -> None:
    (text,) = blocks("interlocks.md", "yaml")
    sections = YAML(typ="safe").load(text)
    monitors = [MonitorConfig.model_validate(section) for section in sections["monitors"]]
    hot, quick, dim = (InterlockConfig.model_validate(section) for section in sections["interlocks"])
    guard = DetectorGuardConfig.model_validate(sections["detector_guard"])
    assert [monitor.period for monitor in monitors] == [5.0]
    assert (hot.stale_s, hot.hold, hot.action) == (30.0, 10.0, "suspend")
    assert hot.high is not None and value_of(hot.high, UNITS[hot.parameter]) == 12.0
    assert quick.slope is not None and slope_of(quick.slope, UNITS[quick.parameter]) == 0.5
    assert dim.low is not None and value_of(dim.low, UNITS[dim.parameter]) == 1e-6
    assert guard.max_rate == 2e6
