"""The bench that is left behind: one long-lived twin, a bench file for it, a look at its light and locks."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from labctl.bench.bench import open_bench
from labctl.bench.twin_client import TwinClient, TwinProcess, start_twin
from labctl.loading import find_config

LIGHT = ("vis_photons_at_sample_per_s", "mir_field_mv_cm", "mir_reaches_sample", "diode_fires", "cw_emits")
AT_SAMPLE = LIGHT[:3]
POLL_S = 0.004


class World:
    """A twin for many trials, one after the other; replaced by a new one when a trial left light on."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._folder = folder
        self._seed = seed
        folder.mkdir(parents=True, exist_ok=True)
        self._twin: TwinProcess
        self._start()

    @property
    def bench_file(self) -> Path:
        """The bench `sim_dot`, attached to this twin."""
        return self._folder / "bench.yaml"

    @property
    def locks(self) -> Path:
        """Folder of the locks of its instruments."""
        return self._folder / "locks"

    def locked(self) -> list[str]:
        """The locks that somebody holds."""
        return [file.name for file in self.locks.glob("*.lock") if _is_held(file)]

    @property
    def client(self) -> TwinClient:
        """Its control port, on connections of the harness's own."""
        return self._twin.client

    def warm(self) -> None:
        """Let there be light once, so that no trial waits for the kernels of the twin to be compiled."""
        with open_bench(str(self.bench_file), guardian=False) as bench:
            bench.diode.synchronised(True)
            bench.excitation.mean_excitons(0.1)
            bench.diode.enabled(True)
            bench.mir_gate.open(True)
            for _ in bench.tagger.stream([1, 2, 4], 0.1, 0.1):
                pass

    def renew(self) -> None:
        """A new twin in the place of one that is not as it was."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the twin."""
        self._twin.close()

    def light(self) -> dict[str, Any]:
        """What shines now, by name; empty when it is dark."""
        state = self.client.truth()["state"]
        return {name: state[name] for name in LIGHT if state[name]}

    def await_dark(self, limit_s: float) -> float | None:
        """The time (monotonic) at which no light was left; None if some still is after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            asked = time.monotonic()
            if not self.light():
                return asked
            time.sleep(POLL_S)
        return None

    def _start(self) -> None:
        self._twin = start_twin(find_config("twins", "sim_dot"), seed=self._seed)
        yaml = YAML()
        bench = yaml.load(find_config("benches", "sim_dot"))
        bench["twin"] = self._twin.control_address
        yaml.dump(bench, self.bench_file)


def _is_held(file: Path) -> bool:
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
