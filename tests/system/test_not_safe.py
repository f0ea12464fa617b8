"""An instrument that cannot be made safe: the others are, the file is complete, and the user is told."""

from pathlib import Path
from typing import Any

import pytest

from labctl.bench.bench import Bench, TwinOptions
from labctl.instruments.base import SafeReport
from labctl.runs.execute import NotSafe, execute, find_experiment
from labctl.store import list_runs, open_run
from tests.system.conftest import MidRun


def test_an_instrument_that_breaks_its_promise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: dict[str, Any] = {}

    def sabotage(bench: Bench) -> None:
        def fail() -> SafeReport:
            seen["bench"] = bench
            raise RuntimeError("the key is stuck")

        object.__setattr__(bench.cw_laser, "safe", fail)

    experiment = find_experiment("hbt").model_validate({"duration": 1.0, "dark_time": 0.5})
    with pytest.raises(NotSafe, match=r"cw_laser: NOT SAFE .*the key is stuck.*switch it off by hand"):
        execute(experiment, "sim_dot", root=tmp_path, twin=TwinOptions(seed=1), on_open=sabotage)
    assert "switch it off by hand" in caplog.text
    data = open_run(list_runs(tmp_path)[0].path)
    outcome = {event["instrument"]: event["safe"] for event in data.events if event["kind"] == "safe"}
    assert outcome.pop("cw_laser") is False
    assert outcome and all(outcome.values())
    assert data.status == "success" and data.path.name == "run.h5"


def test_a_twin_that_dies_leaves_a_complete_file(tmp_path: Path) -> None:
    opened: list[Bench] = []

    def kill() -> None:
        twin = opened[0].twin
        assert twin is not None
        twin.client.shutdown()

    experiment = find_experiment("hbt").model_validate({"duration": 1.0, "dark_time": 5.0})
    with pytest.raises(Exception, match=r"NOT SAFE|twin|connection"):
        execute(
            experiment,
            "sim_dot",
            root=tmp_path,
            twin=TwinOptions(seed=1),
            on_open=opened.append,
            progress=MidRun(0.5, kill),
        )
    data = open_run(list_runs(tmp_path)[0].path)
    assert data.status == "fail" and data.path.name == "run.h5"
    assert len(data.acquisitions) == 1
