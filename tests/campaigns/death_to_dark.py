"""How long does light stay on after its engine has died, or hangs?

    python tests/campaigns/death_to_dark.py --deaths 20 --hangs 5

Each time a process opens the bench `sim_dot`, holds the light on the sample and beats; then it gets SIGKILL
or SIGSTOP, and the twin's control port is asked until it says dark. Prints every delay and the percentiles,
for hangs counted from the limit (the promised time of the next beat and the grace after it).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from labctl.bench.heart import KILL_GRACE_S, Kind
from labctl.bench.twin_client import TwinClient

ROOT = Path(__file__).resolve().parents[2]
LIGHT = ("vis_photons_at_sample_per_s", "mir_reaches_sample", "diode_fires", "cw_emits")
PATIENCE_S = 60.0

HOLD = """
import sys, time
from labctl.bench.bench import open_bench
with open_bench("sim_dot") as bench:
    bench.diode.synchronised(True)
    bench.excitation.mean_excitons(0.1)
    bench.cw_laser.emission(True)
    bench.diode.enabled(True)
    bench.mir_gate.open(True)
    print(bench.twin.control_address, flush=True)
    {action}
"""
BEAT = """while True:
        bench.heart.beat(what="holding light")
        time.sleep(0.05)"""


@contextmanager
def engine(action: str = BEAT) -> Iterator[tuple[subprocess.Popen[str], TwinClient]]:
    """A process that holds light, and a client of its twin, which stays as long as that is connected.

    action: what it does then, a statement that does not end.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD.format(action=action)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        with TwinClient(process.stdout.readline().strip()) as client:
            assert shining(client)
            try:
                yield process, client
            finally:
                process.kill()


def shining(client: TwinClient) -> dict[str, float]:
    """What light there still is."""
    state = client.truth()["state"]
    return {name: state[name] for name in LIGHT if state[name]}


def dark_after_s(number: signal.Signals) -> float:
    """Wall time from the signal to darkness."""
    with engine() as (process, client):
        begin_s = time.monotonic()
        process.send_signal(number)
        while light := shining(client):
            if time.monotonic() - begin_s > PATIENCE_S:
                raise AssertionError(f"still on after {PATIENCE_S:g} s: {light}")
        return time.monotonic() - begin_s


def tell(what: str, delays_s: list[float]) -> None:
    """One line with the distribution."""
    low, median, high, worst = np.quantile(delays_s, (0.05, 0.5, 0.99, 1.0))
    sys.stdout.write(
        f"{what}: n = {len(delays_s)}, 5 % {low:.3f} s, median {median:.3f} s, "
        f"99 % {high:.3f} s, worst {worst:.3f} s\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--hangs", type=int, default=5)
    options = parser.parse_args()
    limit_s = Kind.SLICE.default_s + KILL_GRACE_S
    for what, number, count, from_s in (
        ("death to dark", signal.SIGKILL, options.deaths, 0.0),
        ("hang to dark, from its limit", signal.SIGSTOP, options.hangs, limit_s),
    ):
        delays_s = []
        for _ in range(count):
            delays_s.append(dark_after_s(number) - from_s)
            sys.stdout.write(f"{what}: {delays_s[-1]:.3f} s\n")
            sys.stdout.flush()
        if delays_s:
            tell(what, delays_s)


if __name__ == "__main__":
    main()
