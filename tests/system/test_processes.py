"""Who is in which process: no twin and no window toolkit beside the engine, no driver beside the world."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from labctl.twin.presence import process_alive
from tests.system.conftest import BENCH, ROOT, environment

WINDOW_TOOLKITS = {"PySide2", "PySide6", "PyQt5", "PyQt6", "pyqtgraph"}

RUN = """
import sys
from pathlib import Path
from labctl.runs.execute import execute, find_experiment

pids = []
execute(
    find_experiment("hold_light")(points=2), sys.argv[1], root=Path("runs"),
    on_open=lambda bench: pids.append(bench.twin.pid),
)
print("pid", *pids)
print(*sys.modules, sep="\\n")
"""

TWIN = """
import sys
from pathlib import Path
from labctl.twin.__main__ import build_bench
from labctl.twin.process import RunningTwin, Terms

twin = RunningTwin(build_bench(Path(sys.argv[1]), 1, {}), Terms())
twin.stop()  # so that it serves, and ends at once
twin.run()
print(*sys.modules, sep="\\n")
"""


def lines_of(script: str, argument: str) -> list[str]:
    """What a script prints, by line."""
    command = [sys.executable, "-c", script, argument]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_twin_and_no_windows_in_the_bench_process_and_the_twin_ends_with_it(user_folder: Path) -> None:
    lines = lines_of(RUN, BENCH)
    (pid,) = [int(line.split()[1]) for line in lines if line.startswith("pid ")]
    assert not process_alive(pid)
    modules = set(lines)
    assert "labctl.bench.twin_client" in modules and "drivers.rotators.thorlabs_ell14" in modules
    assert [name for name in modules if name.startswith("labctl.twin")] == []
    assert WINDOW_TOOLKITS.isdisjoint(name.partition(".")[0] for name in modules)
    # of the simulators only what stands in for the vendor's library, which is made to be loaded here
    sims = {name for name in modules if name.startswith("drivers.") and ".sim." in name}
    assert sims <= {f"drivers.taggers.sim.swabian_{part}" for part in ("api", "measurements", "wire")}


def test_no_driver_in_the_twin_process() -> None:
    modules = lines_of(TWIN, str(ROOT / "configs" / "twins" / "sim_dot.yaml"))
    assert "drivers.rotators.sim.thorlabs_ell14" in modules
    in_folders = [name for name in modules if name.startswith("drivers.") and name.count(".") == 2]
    assert [name for name in in_folders if not name.endswith(".sim")] == []
    above = tuple(f"labctl.{room}" for room in ("instruments", "bench", "store", "analysis", "runs", "cli"))
    assert [name for name in modules if name.startswith(above)] == []
    assert {"qcodes", "pyvisa", "serial", "h5py"}.isdisjoint(modules)
