"""The twin as a process: how it starts, what it says, and all the ways in which it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from labctl.bench import twin_client
from labctl.bench.twin_client import TwinClient, TwinError, TwinProcess, start_twin
from labctl.twin.__main__ import main
from labctl.twin.presence import process_alive
from labctl.twin.process import WATCH_S, Bench, load_sim
from tests.twin.conftest import DEADLINE_S, Wire, eventually
from tests.twin.fake_twin import S, Stage

ROOT = Path(__file__).resolve().parents[2]
FAKE = "tests.twin.fake_twin"
STARTER = f"""
import sys
from labctl.bench.twin_client import start_twin
twin = start_twin(sys.argv[1], search_path=[{str(ROOT)!r}], companions=[int(sys.argv[2])], module={FAKE!r})
print(twin.control_address, twin.pid, flush=True)
input()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., TwinProcess]]:
    twins: list[TwinProcess] = []
    config = tmp_path / "fake.yaml"
    config.touch()

    def start_fake(**options: Any) -> TwinProcess:
        twins.append(start_twin(config, 3, search_path=[ROOT], module=FAKE, **options))
        return twins[-1]

    yield start_fake
    for twin in twins:
        twin.close()


def test_a_twin_serves_and_shuts_down(
    start: Callable[..., TwinProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with start() as twin:
        hello = twin.client.hello()
        assert (hello["pid"], hello["twin_id"], hello["seed"]) == (twin.pid, twin.twin_id, 3)
        twin.client.lease("run 1")
        wire = Wire(int(hello["devices"]["stage"]["address"].rpartition(":")[2]))
        assert wire.ask("MOVE 2.5") == "DONE 2.5"
        assert twin.client.time_ps() == 2.5 * S
        wire.close()
    assert twin.wait(0) == 0
    assert not twin.running()
    twin.close()


def test_overrides_reach_the_twin(start: Callable[..., TwinProcess]) -> None:
    twin = start(overrides={"transport": "vendor"})
    assert twin.client.hello()["devices"]["stage"]["address"].startswith("vendor://fake_vendor@127.0.0.1:")


def test_a_free_running_twin(start: Callable[..., TwinProcess]) -> None:
    twin = start(speed=100.0)
    assert twin.client.wait_until(S, DEADLINE_S)


def test_an_orphan_ends(start: Callable[..., TwinProcess]) -> None:
    twin = start(orphan_s=0.2)
    assert twin.running()
    twin.client.close()
    assert twin.wait(DEADLINE_S) == 0
    assert "no client" in twin.last_words()


@pytest.mark.skipif(sys.platform == "win32", reason="processes are ended differently there")
def test_sigterm_ends_it_cleanly(start: Callable[..., TwinProcess]) -> None:
    twin = start()
    os.kill(twin.pid, signal.SIGTERM)
    assert twin.wait(DEADLINE_S) == 0
    assert "SIGTERM" in twin.last_words()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    config = tmp_path / "fake.yaml"
    config.touch()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        assert process_alive(parent.pid)
        command = [sys.executable, "-m", FAKE, "--config", str(config), "--parent-pid", str(parent.pid)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment) as twin:  # fmt: skip
            assert twin.stdout is not None and twin.stderr is not None
            assert "control" in twin.stdout.readline()
            assert twin.poll() is None
            parent.kill()
            assert twin.wait(DEADLINE_S) == 0
            assert f"the process {parent.pid}" in twin.stderr.read()
            assert twin.stdout.read() == "", "stdout carries the ready line and nothing else"
    assert not process_alive(parent.pid)


def test_it_stays_for_a_companion_and_for_who_is_connected(tmp_path: Path) -> None:
    (tmp_path / "fake.yaml").touch()
    companion = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "fake.yaml"), str(companion.pid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with companion, starter:
        assert starter.stdout is not None
        control, pid = starter.stdout.readline().split()
        starter.kill()
        starter.wait(DEADLINE_S)
        with TwinClient(control) as client:
            companion.kill()
            companion.wait(DEADLINE_S)
            threading.Event().wait(3 * WATCH_S)  # it had the time to see that both are gone
            assert client.hello()["pid"] == int(pid)
        eventually(lambda: not process_alive(int(pid)))


def test_a_twin_that_cannot_start_gives_its_reason_and_no_more(tmp_path: Path) -> None:
    with pytest.raises(TwinError, match=r"^[^\n]*missing\.yaml: no such file$"):
        start_twin(tmp_path / "missing.yaml", 1, search_path=[ROOT], module=FAKE)


def test_a_twin_that_dies_at_the_start_leaves_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "dying_twin.py").write_text("raise SystemExit('out of breath')\n")
    with pytest.raises(TwinError, match=r"(?s)ended before it was ready.*out of breath"):
        start_twin(tmp_path / "any.yaml", 1, search_path=[tmp_path], module="dying_twin")


def test_a_twin_that_never_gets_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleepy_twin.py").write_text("import threading\nthreading.Event().wait(60)\n")
    monkeypatch.setattr(twin_client, "START_S", 0.3)
    with pytest.raises(TwinError, match=r"not ready within 0.3 s.*\n.*said nothing"):
        start_twin(tmp_path / "any.yaml", 1, search_path=[tmp_path], module="sleepy_twin")


def test_an_override_must_be_path_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--config", "x.yaml", "--set", "world.dot.tau_x_s"])
    assert "is not PATH=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [("2.1e-8", 2.1e-8), ("1e-08", 1e-8), ("true", True), ("null", None), ("[1, 2]", [1, 2]), ("dot", "dot")],
)
def test_values_of_overrides_are_yaml(text: str, value: object) -> None:
    seen: list[object] = []

    def build(path: Path, seed: int | None, overrides: Mapping[str, Any]) -> Bench:
        seen.extend([seed, overrides])
        raise ValueError("enough seen")

    assert main(["--config", "x.yaml", "--set", f"world.x={text}"], build) == 2
    assert seen == [None, {"world.x": value}]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("no_such_package.module:Laser", "no_such_package"),
        ("tests.twin.fake_twin:Laser", "Laser"),
        ("tests.twin.fake_twin:Nothing", "cannot be loaded"),
        ("tests.twin.fake_twin:FakeWorld", "not a SimDevice"),
    ],
)
def test_a_simulator_that_cannot_be_loaded_is_named(spec: str, complaint: str) -> None:
    assert load_sim("laser", "tests.twin.fake_twin:Stage").__name__ == Stage.__name__
    with pytest.raises(ValueError, match=rf"device laser: .*{complaint}"):
        load_sim("laser", spec)
