"""A long-lived twin: runs attach to it one after the other, and nothing resets it."""

from pathlib import Path

import pytest

from labctl.bench.twin_client import TwinError, start_twin
from labctl.loading import find_config
from labctl.runs.execute import execute, find_experiment
from labctl.store import open_run


def test_runs_share_a_twin_that_stays(tmp_path: Path) -> None:
    hbt = find_experiment("hbt").model_validate({"duration": 2.0, "dark_time": 0.5})
    with start_twin(find_config("twins", "sim_dot"), seed=4) as twin:
        bench = tmp_path / "attached.yaml"
        text = find_config("benches", "sim_dot").read_text(encoding="utf-8")
        bench.write_text(text.replace("twin: sim_dot", f"twin: {twin.control_address}"), encoding="utf-8")
        first, second = (open_run(execute(hbt, str(bench), root=tmp_path).directory).header for _ in range(2))
        assert first["twin_id"] == second["twin_id"] == twin.twin_id
        assert second["bench_time_s"] >= first["bench_time_s"] + 2.5
        assert twin.running()
        twin.client.lease("somebody else")
        with pytest.raises(TwinError, match="owned by 'somebody else'"):
            execute(hbt, str(bench), root=tmp_path)
