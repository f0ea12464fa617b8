"""The light of a real bench goes out when its engine cannot put it out; the twin tells."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from labctl.bench.locks import Locks
from labctl.bench.twin_client import TwinClient
from labctl.twin.presence import process_alive
from tests.campaigns.death_to_dark import BEAT, engine, shining

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals to send there")
DEADLINE_S = 60.0

ACQUIRE = 'list(bench.tagger.stream([1, 2], 1e6, 1.0))'
HALF_A_COMMAND = """bench.delay_generator.link.send(b"LOFF 3,2.0;LOFF 2,")
    bench.cw_laser.link.send(b"SOUR:AM:STA")
    """ + BEAT  # fmt: skip


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABCTL_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def await_dark(client: TwinClient) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while light := shining(client):
        assert time.monotonic() < deadline_s, f"still on: {light}"


def await_free(client: TwinClient) -> None:
    """Until the guardian has let go of the instruments."""
    devices = client.hello()["devices"]
    addresses = {name: device["address"] for name, device in devices.items()}
    Locks.acquire(addresses, patience_s=DEADLINE_S).release()


@pytest.mark.parametrize("action", [BEAT, ACQUIRE, HALF_A_COMMAND], ids=["idle", "acquiring", "talking"])
def test_a_killed_engine_leaves_no_light(action: str, own_locks: Path) -> None:
    with engine(action) as (process, client):
        pid = client.hello()["pid"]
        process.kill()
        await_dark(client)
        await_free(client)
        assert not list(own_locks.glob("*.lock"))
        truth = client.truth()["state"]
        assert truth["vis_photons_at_sample_per_s"] == 0 and not truth["mir_reaches_sample"]
    # the twin stays for as long as somebody looks at it
    deadline_s = time.monotonic() + DEADLINE_S
    while process_alive(pid):
        assert time.monotonic() < deadline_s, "the twin lives on"
        time.sleep(0.02)


def test_a_hung_engine_leaves_no_light() -> None:
    with engine() as (process, client):
        process.send_signal(signal.SIGSTOP)
        await_dark(client)
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
        await_free(client)
