"""One trial from beginning to end: bring a run into a phase, kill it there, see what is left.

Nothing here sleeps in order to meet the run somewhere: the run says when it is in the phase and waits there.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import selectors
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.bench.locks import LOCKS_VARIABLE
from labctl.runs.remote import RemoteError, send_command
from labctl.store import list_runs
from tests.kill import processes
from tests.kill.disk import check_disk
from tests.kill.trial import DARK, RAISING, SOFT, UNGUARDED, WAITING, Result, Trial
from tests.kill.victim import Orders
from tests.kill.world import AT_SAMPLE, World

ROOT = Path(__file__).resolve().parents[2]
REACH_S = 60.0
HANDLE_S = 2.0
GONE_S = 10.0
_SIGNALS = {"sigterm": "SIGTERM", "sighup": "SIGHUP", "sigkill": "SIGKILL", "sigstop": "SIGSTOP"}


@dataclass
class Victim:
    """A started run and our ends of its pipes."""

    trial: Trial
    mark: str
    process: subprocess.Popen[bytes]
    heard_fd: int
    go_fd: int
    terminal_fd: int = -1
    _words: list[dict[str, Any]] = field(default_factory=list)
    _buffer: bytes = b""

    def await_word(self, word: str, limit_s: float) -> dict[str, Any] | None:
        """The next time it says `word`; None when it ends or does not say it in time."""
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.heard_fd, selectors.EVENT_READ)
            while True:
                while self._words:
                    said = self._words.pop(0)
                    if said["word"] == word:
                        return said
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    return None
                chunk = os.read(self.heard_fd, 4096)
                if not chunk:
                    return None
                *lines, self._buffer = (self._buffer + chunk).split(b"\n")
                self._words += [json.loads(line) for line in lines]

    def go(self) -> None:
        """Let it go on."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.go_fd, b"!")

    def close(self) -> None:
        """Our ends, and whatever of it still lives."""
        processes.end_all(self.mark)
        self.process.wait()
        for fd in {self.heard_fd, self.go_fd, self.terminal_fd} - {-1}:
            os.close(fd)


def run_trial(trial: Trial, world: World, folder: Path, patience_s: float = 30.0) -> Result:
    """Carry `trial` out in `world`; `folder` is its own and is kept if something failed.

    patience_s: wall time after the act for it to get dark, and then for the run to end.
    """
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = Result(trial)
    world.client.clear_faults()
    if light := world.light():
        raise RuntimeError(f"the world is not dark before {trial.key}: {light}")
    victim = _start(trial, world, folder)
    try:
        _kill(victim, world, folder, result, patience_s)
        _look_back(victim, folder, result, patience_s)
    finally:
        victim.close()
    result.wall_s = time.monotonic() - began
    result.failures += [f"{name} is still locked" for name in world.locked()]
    if world.light():
        result.failures.append(f"light is left on: {world.light()}")
        world.renew()
    if result.passed:
        shutil.rmtree(folder)
    else:
        result.evidence = str(folder)
        (folder / "result.json").write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")
    return result


def _start(trial: Trial, world: World, folder: Path) -> Victim:
    heard_fd, say_fd = os.pipe()
    hear_fd, go_fd = os.pipe()
    mark = f"{os.getpid()}-{folder.parent.name}-{trial.key}"
    orders = Orders(trial, str(world.bench_file), str(folder / "runs"), str(folder / "log"), say_fd, hear_fd)
    environment = os.environ | {
        processes.MARK: mark,
        LOCKS_VARIABLE: str(world.locks),
        "PYTHONPATH": str(ROOT),
        "LABCTL_PATH": str(Path(__file__).parent),
    }
    terminal_fd, slave_fd = pty.openpty() if trial.kind == "terminal" else (-1, -1)
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        streams = {"stdin": slave_fd, "stdout": slave_fd, "stderr": slave_fd}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.victim", orders.to_text()], cwd=folder, env=environment,
            start_new_session=True, pass_fds=(say_fd, hear_fd),
            **streams if slave_fd >= 0 else {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err},
        )  # fmt: skip
    for fd in {say_fd, hear_fd, slave_fd} - {-1}:
        os.close(fd)
    return Victim(trial, mark, process, heard_fd, go_fd, terminal_fd)


def _kill(victim: Victim, world: World, folder: Path, result: Result, patience_s: float) -> None:
    """Bring it into the phase, act, and time the dark."""
    trial = victim.trial
    reached = victim.await_word("reached", REACH_S)
    if reached is None:
        result.failures.append(f"the run never came to {trial.phase!r} (exit code {victim.process.poll()})")
        return
    result.failures += _wrong_light(trial, world.light())
    acted = _act(victim)
    if reached["limit"] is not None:
        result.limit_s = reached["limit"] - acted
    dark = world.await_dark(patience_s)
    if dark is None:
        result.failures.append(f"still light {patience_s:g} s after the act: {world.light()}")
    else:
        result.dark_s = max(0.0, dark - acted)
    if trial.kind == "guardian" and trial.phase in WAITING:
        result.failures += _continue(victim, folder / "runs", patience_s)


def _wrong_light(trial: Trial, light: dict[str, Any]) -> list[str]:
    at_sample = {name: value for name, value in light.items() if name in AT_SAMPLE}
    if trial.lit and not at_sample:
        return ["no light when the trial acts, so that it would show nothing"]
    if trial.phase in DARK and at_sample:
        return [f"light at the sample while {trial.phase}: {at_sample}"]
    return []


def _continue(victim: Victim, root: Path, patience_s: float) -> list[str]:
    """A run that has lost its guardian waits in the dark; tell it to go on, again and again until it is over.

    The first command may come before it has seen that its guardian is gone.
    """
    (run,) = list_runs(root)
    deadline, heard = time.monotonic() + patience_s, False
    while victim.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(RemoteError):  # it is about to end
            heard = bool(send_command(run.path, "continue")) or heard
        time.sleep(0.1)
    return [] if heard else ["it did not wait for `labctl continue`"]


def _act(victim: Victim) -> float:
    """Do what the trial says; returns the time (monotonic) of the deed."""
    trial, pid = victim.trial, victim.process.pid
    acted = time.monotonic()
    if trial.kind in SOFT:
        for _ in range(SOFT[trial.kind]):
            if victim.process.poll() is None:
                os.killpg(pid, signal.SIGINT)  # as a terminal does: to the whole process group
                victim.await_word("handled", HANDLE_S)
    elif trial.kind == "terminal":
        os.close(victim.terminal_fd)
        victim.terminal_fd = -1
    elif trial.kind in ("guardian", UNGUARDED):
        for guardian in processes.guardians(victim.mark):
            os.kill(guardian, signal.SIGKILL)
        if trial.kind == UNGUARDED:
            os.kill(pid, signal.SIGKILL)
    elif trial.kind in _SIGNALS:
        os.kill(pid, signal.Signals[_SIGNALS[trial.kind]])
    victim.go()
    if trial.kind in _SIGNALS or trial.kind in ("terminal", UNGUARDED, *SOFT):
        return acted
    said = victim.await_word("acting", HANDLE_S)
    return acted if said is None else float(said["time"])


def _look_back(victim: Victim, folder: Path, result: Result, patience_s: float) -> None:
    """Processes, words and files after the end."""
    trial = victim.trial
    busy = _await(lambda: victim.process.poll() is not None, victim, patience_s)
    if not busy.ended:
        result.failures.append(f"the run has not ended {patience_s:g} s after the act")
        processes.end_all(victim.mark)
    gone = _await(lambda: not processes.marked(victim.mark), victim, min(GONE_S, patience_s))
    if not gone.ended:
        left = [f"{pid} {processes.command_line(pid)}" for pid in processes.marked(victim.mark)]
        result.failures += [f"a process is left: {text}" for text in left]
    result.cpu_s = busy.cpu_s + gone.cpu_s
    if not trial.forced and trial.kind != "terminal":
        result.failures += _wrong_words(trial, victim.process.returncode, folder)
    if (folder / "log").exists():
        result.failures += check_disk(trial, folder / "runs", folder / "log")


@dataclass(frozen=True)
class _Waited:
    ended: bool
    cpu_s: float


def _await(condition: Any, victim: Victim, limit_s: float) -> _Waited:
    """Wait for a condition, counting the CPU time of the trial's processes."""
    deadline, used_s = time.monotonic() + limit_s, {victim.process.pid: 0.0}
    while not (ended := condition()) and time.monotonic() < deadline:
        for pid in processes.marked(victim.mark):
            used_s[pid] = processes.cpu_s(pid)
        time.sleep(0.02)
    return _Waited(ended, sum(used_s.values()))


def _wrong_words(trial: Trial, code: int | None, folder: Path) -> list[str]:
    """A run that was stopped says so in a line; a traceback is not for users."""
    text = (folder / "stderr").read_text(encoding="utf-8", errors="replace")
    failures = [f"a traceback: {text[-2000:]}"] if "Traceback" in text else []
    if code not in _exit_codes(trial):
        failures.append(f"exit code {code}: {text[-200:]}")
    return failures


def _exit_codes(trial: Trial) -> set[int]:
    """0 done, 1 internal error, 2 error, 130 stopped; the guardian may have to end what is asked thrice."""
    if trial.kind == "sigint3":
        return {130, -signal.SIGKILL} | ({0} if trial.phase in ("finalising", "shutting_down") else set())
    if trial.kind == "guardian" and trial.phase == "connecting":
        return {2}  # a bench without a guardian is not opened
    if trial.kind in RAISING:
        return {1, 2} | ({0} if trial.phase == "viewing" else set())
    return {0, 130}
