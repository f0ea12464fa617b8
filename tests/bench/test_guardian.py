"""Whatever becomes of the engine, the lamp goes out: on a bench of stubs, with real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from labctl.bench import guardian as guardian_module
from labctl.bench import guardian_client
from labctl.bench.bench import open_bench
from labctl.bench.guardian import PATIENT_S
from labctl.bench.guardian_client import GuardianError
from labctl.bench.locks import BenchBusy, Locks
from labctl.bench.page import Page
from labctl.bench.record import FILE_NAME
from labctl.instruments.errors import InstrumentError
from tests.bench.conftest import DEADLINE_S, environment, eventually, gone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, sessions and terminals")

BENCH = """
bench: stub
instruments:
  cryostat: {{driver: 'tests.bench.stub:Lamp', address: 'file://{folder}/cryostat'}}
  lamp: {{driver: 'tests.bench.stub:Lamp', address: 'file://{folder}/lamp'}}
"""

ENGINE = """
import os, subprocess, sys, time
from pathlib import Path
from labctl.bench.bench import open_bench

if len(sys.argv) > 2:  # the first terminal that the leader of a session opens is its terminal
    os.open(sys.argv[2], os.O_RDWR)
with open_bench(sys.argv[1]) as bench:
    bench.lamp.emission(True)
    print("on", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["beat", seconds]:
                end = time.monotonic() + float(seconds)
                while time.monotonic() < end:
                    bench.heart.beat(0.3, "counting")
                    time.sleep(0.01)
                bench.heart.rest()
            case ["beat"]:
                bench.heart.beat(0.3, "counting")
                print("beating", flush=True)
                while True:
                    bench.heart.beat(0.3, "counting")
                    time.sleep(0.01)
            case ["record", folder]:
                bench.heart.record_in(Path(folder))
            case ["child"]:
                print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
            case ["hand", "over"]:
                bench.heart.hand_over("Ctrl-C three times")
                time.sleep(600)
            case ["promise", seconds]:
                with bench.heart.promise("fitting", float(seconds)):
                    time.sleep(600)
        print("done", flush=True)
"""


@dataclass
class Engine:
    """A process that has opened the stub bench and switched the lamp on."""

    process: subprocess.Popen[str]
    folder: Path

    def ask(self, command: str) -> str:
        """Send a command; the first line that comes back."""
        self.begin(command)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begin(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def dark(self) -> bool:
        return (self.folder / "lamp").read_text() == "off"

    def records(self, folder: Path | None = None) -> list[dict[str, object]]:
        """What the guardian has written, so far."""
        file = (folder or self.folder / "locks") / FILE_NAME
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def record(self, what: str) -> dict[str, object]:
        """The first record of that kind, waited for."""
        eventually(lambda: any(record["what"] == what for record in self.records()), what)
        return next(record for record in self.records() if record["what"] == what)

    def leave(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(DEADLINE_S)

    def addresses(self) -> dict[str, str]:
        return {name: f"file://{self.folder}/{name}" for name in ("cryostat", "lamp")}

    def await_free(self) -> None:
        """Until the instruments are nobody's."""
        Locks.acquire(self.addresses(), patience_s=DEADLINE_S).release()


@pytest.fixture
def bench_file(tmp_path: Path) -> Path:
    for name in ("cryostat", "lamp"):
        (tmp_path / name).write_text("off")
    (tmp_path / "stub.yaml").write_text(BENCH.format(folder=tmp_path))
    return tmp_path / "stub.yaml"


@pytest.fixture
def start(bench_file: Path) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def start_engine(*arguments: str, **options: object) -> Engine:
        process = subprocess.Popen(
            [sys.executable, "-c", ENGINE, str(bench_file), *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=environment(), **options,
        )  # type: ignore[call-overload]  # fmt: skip
        engine = Engine(process, bench_file.parent)
        engines.append(engine)
        assert process.stdout.readline() == "on\n"
        return engine

    yield start_engine
    for engine in engines:
        with engine.process:
            engine.process.kill()
        engine.folder.joinpath("lamp.stuck").unlink(missing_ok=True)
        engine.await_free()  # so that no guardian outlives its test


def test_an_engine_that_leaves_in_order_needs_no_guardian(start: Callable[..., Engine]) -> None:
    engine = start()
    assert engine.ask("beat 0.1") == "done"
    assert engine.leave() == 0
    assert engine.dark() and engine.records() == []
    assert len((engine.folder / "lamp.log").read_text().splitlines()) == 1
    assert not list((engine.folder / "locks").glob("*.lock"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_when_the_engine_dies_it_gets_dark(start: Callable[..., Engine], number: signal.Signals) -> None:
    engine = start()
    engine.kill(number)
    eventually(engine.dark, "dark")
    reports = engine.record("made safe")["reports"]
    assert reports == ["lamp: safe (light off)", "cryostat: safe (light off)"]
    engine.await_free()


def test_when_the_engine_hangs_it_is_ended(start: Callable[..., Engine]) -> None:
    engine = start()
    assert engine.ask("beat") == "beating"
    engine.kill(signal.SIGSTOP)
    eventually(engine.dark, "dark")
    assert engine.process.wait(DEADLINE_S) == -signal.SIGKILL
    assert engine.record("missed beat")["during"] == "counting"
    assert engine.record("takes over")["reason"] == "no beat within the limit, while counting"


def test_a_short_stop_is_no_alarm(start: Callable[..., Engine]) -> None:
    engine = start()
    engine.begin("beat 0.6")
    for _ in range(3):
        engine.kill(signal.SIGSTOP)
        time.sleep(0.1)
        engine.kill(signal.SIGCONT)
        time.sleep(0.05)
    assert engine.process.stdout is not None and engine.process.stdout.readline() == "done\n"
    assert engine.leave() == 0 and engine.records() == []


def test_at_rest_it_may_stop_for_long(start: Callable[..., Engine]) -> None:
    engine = start()
    engine.kill(signal.SIGSTOP)
    time.sleep(2.0)
    engine.kill(signal.SIGCONT)
    assert engine.leave() == 0 and engine.records() == []


def test_a_declared_step_may_last_as_long_as_declared(start: Callable[..., Engine]) -> None:
    engine = start()
    engine.begin("promise 0.2")
    assert engine.record("takes over")["reason"] == "no beat within the limit, while fitting"
    eventually(engine.dark, "dark")


def test_the_guardian_survives_the_terminal(start: Callable[..., Engine]) -> None:
    ours, theirs = pty.openpty()
    engine = start(os.ttyname(theirs), start_new_session=True)
    os.close(theirs)
    os.close(ours)
    assert engine.process.wait(DEADLINE_S) == -signal.SIGHUP
    eventually(engine.dark, "dark")
    engine.record("made safe")


def test_a_run_that_has_a_folder_finds_the_record_there(start: Callable[..., Engine], tmp_path: Path) -> None:
    engine = start()
    (tmp_path / "run").mkdir()
    assert engine.ask(f"record {tmp_path / 'run'}") == "done"
    engine.kill()
    eventually(lambda: any(r["what"] == "made safe" for r in engine.records(tmp_path / "run")))
    assert engine.records() == []


def test_the_engine_can_hand_over(start: Callable[..., Engine]) -> None:
    engine = start()
    engine.begin("hand over")
    eventually(engine.dark, "dark")
    assert engine.process.wait(DEADLINE_S) == -signal.SIGKILL
    assert engine.record("takes over")["reason"] == "the engine asked for it: Ctrl-C three times"


def test_children_die_with_the_engine(start: Callable[..., Engine]) -> None:
    engine = start(start_new_session=True)
    child = int(engine.ask("child"))
    engine.kill()
    eventually(lambda: gone(child), "the end of the child")


def test_children_are_ended_with_the_engine(start: Callable[..., Engine]) -> None:
    engine = start()  # in our process group, which must survive
    child = int(engine.ask("child"))
    engine.begin("hand over")
    eventually(lambda: gone(child), "the end of the child")


def test_the_locks_are_held_until_all_is_safe(start: Callable[..., Engine]) -> None:
    engine = start()
    (engine.folder / "lamp.stuck").touch()
    engine.kill()
    engine.record("made safe")
    with pytest.raises(BenchBusy, match=r"cryostat \(file://.*\) is held by `guardian of python "):
        Locks.acquire(engine.addresses(), patience_s=0)
    assert not engine.dark()
    (engine.folder / "lamp.stuck").unlink()
    engine.await_free()
    assert engine.dark()


def test_what_the_engine_could_not_make_safe_is_left_to_the_guardian(start: Callable[..., Engine]) -> None:
    engine = start()
    (engine.folder / "lamp.stuck").touch()
    process = engine.process
    assert process.stdin is not None
    process.stdin.close()
    assert engine.record("takes over")["reason"] == "the engine could not make everything safe"
    (engine.folder / "lamp.stuck").unlink()
    eventually(engine.dark, "dark")
    assert process.wait(DEADLINE_S) == 0


def test_told_to_give_up_it_does(start: Callable[..., Engine]) -> None:
    engine = start()
    (engine.folder / "lamp.stuck").touch()
    engine.kill()
    pid = engine.record("made safe")["guardian_pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGTERM)
    assert engine.record("gives up")["reports"] == ["lamp"]
    engine.await_free()
    assert not engine.dark()


@pytest.mark.parametrize(
    ("on_twin", "stages", "spent_s", "gives_up"),
    [
        (True, {"lamp": 1}, PATIENT_S + 1, True),
        (False, {}, PATIENT_S + 1, True),
        (False, {"lamp": 1}, PATIENT_S + 1, False),
        (True, {"lamp": 1}, PATIENT_S - 1, False),
    ],
)
def test_a_bench_where_something_is_at_stake_is_not_given_up(
    on_twin: bool, stages: dict[str, int], spent_s: float, gives_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guardian_module, "SLOW_RETRY_S", 0.0)
    page = Page.create()
    guardian = guardian_module.Guardian(os.getpid(), page)
    guardian._stages = stages
    assert guardian._gives_up(SimpleNamespace(on_twin=on_twin), ["lamp"], spent_s) is gives_up  # type: ignore[arg-type]
    page.close()


def test_signals_do_not_end_a_guardian(bench_file: Path) -> None:
    with open_bench(str(bench_file)) as bench:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(bench.heart._guardian.pid, number)  # type: ignore[union-attr]
        time.sleep(0.2)
        assert bench.heart.guardian_alive()


def test_a_dead_guardian_is_noticed_and_replaced(bench_file: Path) -> None:
    with open_bench(str(bench_file)) as bench:
        bench.heart.beat(60.0)
        first = bench.heart._guardian.pid  # type: ignore[union-attr]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: not bench.heart.guardian_alive(), "its death")
        bench.heart.restart_guardian()
        assert bench.heart.guardian_alive()
        assert bench.heart._guardian.pid != first  # type: ignore[union-attr]
        bench.heart.rest()
    with open_bench(str(bench_file)):
        pass  # the second one has held the locks, too, and has let go of them


def test_a_second_owner_is_refused_by_name(bench_file: Path) -> None:
    words = rf"is held by `.*`, pid {os.getpid()}, since \d\d:\d\d; end it or wait"
    with (
        open_bench(str(bench_file), guardian=False),
        pytest.raises(BenchBusy, match=words),
        open_bench(str(bench_file), guardian=False),
    ):
        pass


@pytest.mark.parametrize("trouble", ["broken", "deaf"])
def test_nobody_waits_for_what_never_answered(bench_file: Path, trouble: str) -> None:
    """As with a wrong address: the bench does not open, and the user tries again at once."""
    (bench_file.parent / "lamp.stuck").touch()
    (bench_file.parent / f"lamp.{trouble}").touch()
    with pytest.raises(InstrumentError, match=r"unplugged|no answer"), open_bench(str(bench_file)):
        pass
    addresses = {name: f"file://{bench_file.parent}/{name}" for name in ("cryostat", "lamp")}
    Locks.acquire(addresses, patience_s=0).release()


def test_a_folder_that_is_gone_does_not_matter(start: Callable[..., Engine], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    engine = start(cwd=tmp_path / "work")
    (tmp_path / "work").rmdir()
    engine.kill()
    eventually(engine.dark, "dark")


def test_no_bench_without_its_guardian(bench_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian_client, "START_S", -1.0)
    with pytest.raises(GuardianError, match=r"the guardian of bench 'stub' did not start"), open_bench(
        str(bench_file)
    ):
        pass
    monkeypatch.undo()


def test_children_are_spawned(bench_file: Path) -> None:
    with open_bench(str(bench_file), guardian=False):
        assert multiprocessing.get_start_method() == "spawn"


def test_nothing_forks(bench_file: Path) -> None:
    script = (
        "import os, sys\n"
        "os.register_at_fork(before=lambda: print('forked', flush=True))\n"
        "from labctl.bench.bench import open_bench\n"
        "with open_bench(sys.argv[1]): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bench_file)], env=environment(), capture_output=True, text=True,
        timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    assert done.stdout == ""
