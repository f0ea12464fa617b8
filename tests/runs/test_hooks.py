"""The hook of a run: what it is told, and that nothing about it can harm the run."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from labctl.runs import hooks as hooks_module
from labctl.runs.hooks import LOG_FILE, OUTPUT_LIMIT, Hooks, call_hook, describe
from labctl.settings import Settings, load_settings

TELL = """
import json, os, sys
told = json.load(sys.stdin)
told["environment"] = {k: v for k, v in os.environ.items() if k.startswith("LABCTL_")}
with open("told.jsonl", "a") as file:
    file.write(json.dumps(told) + chr(10))
print("told of", told["event"])
"""


def settings_for(folder: Path, program: str, **more: object) -> Settings:
    """Settings whose hook is a Python program."""
    (folder / "program.py").write_text(program)
    lines = [f"{name} = {json.dumps(value)}" for name, value in more.items()]
    command = json.dumps([sys.executable, "program.py"])
    (folder / "labctl.toml").write_text("\n".join(["[hooks]", f"command = {command}", *lines]))
    return load_settings(folder)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    return folder


def told(folder: Path) -> list[dict[str, object]]:
    file = folder / "told.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_the_command_is_told_everything(tmp_path: Path, run: Path) -> None:
    failures: list[str] = []
    hooks = Hooks(
        settings_for(tmp_path, TELL, on=["done", "trip"]), run, failures.append, experiment="hbt", bench="b"
    )
    hooks.fire("trip", reason="too warm", temperature=12.5)
    hooks.fire("low_disk")  # not wanted
    hooks.ended("success")
    hooks.ended("fail", "not wanted either")
    hooks.close()
    assert failures == []
    trip, done = told(tmp_path)
    assert (trip["event"], trip["reason"], trip["temperature"]) == ("trip", "too warm", 12.5)
    assert (done["event"], done["status"]) == ("done", "success")
    for message in (trip, done):
        assert (message["run"], message["experiment"], message["bench"]) == (str(run), "hbt", "b")
        assert message["host"] and str(message["time"])[10] == "T"
        for name in ("event", "run", "experiment", "bench", "host", "time"):
            assert message["environment"][f"LABCTL_{name.upper()}"] == message[name]  # type: ignore[index]
    log = (run / LOG_FILE).read_text()
    assert "trip: done" in log and "told of trip" in log and "told of done" in log


@pytest.mark.parametrize(("status", "event"), [("success", "done"), ("abort", "abort"), ("fail", "fail")])
def test_the_status_says_the_event(tmp_path: Path, run: Path, status: str, event: str) -> None:
    hooks = Hooks(settings_for(tmp_path, TELL, on=["done", "abort", "fail"]), run, pytest.fail)
    hooks.ended(status, "why")
    hooks.close()
    (message,) = told(tmp_path)
    assert (message["event"], message["status"], message["reason"]) == (event, status, "why")


def test_without_a_command_nothing_happens(run: Path) -> None:
    before = threading.active_count()
    hooks = Hooks(Settings(), run, pytest.fail)
    hooks.fire("fail")
    assert threading.active_count() == before
    hooks.close()
    assert list(run.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "problem"),
    [("import sys; print('no'); sys.exit(3)", "ended with code 3"), ("raise OSError('x')", "code 1")],
)
def test_a_failing_command_is_reported(tmp_path: Path, run: Path, program: str, problem: str) -> None:
    failures: list[str] = []
    hooks = Hooks(settings_for(tmp_path, program), run, failures.append)
    hooks.fire("fail")
    hooks.fire("abort")  # a failure does not end the hook
    hooks.close()
    assert ["'fail'" in failures[0], "'abort'" in failures[1]] == [True, True]
    assert all(problem in failure for failure in failures)
    assert problem in (run / LOG_FILE).read_text()


def test_a_command_that_is_not_there_is_reported(tmp_path: Path, run: Path) -> None:
    (tmp_path / "labctl.toml").write_text('[hooks]\ncommand = ["./nothing.sh"]')
    failures: list[str] = []
    hooks = Hooks(load_settings(tmp_path), run, failures.append)
    hooks.fire("fail")
    hooks.close()
    (failure,) = failures
    assert "'./nothing.sh' cannot be called" in failure and str(tmp_path) in failure


def test_a_command_that_hangs_is_killed(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path, "import time; print('begun', flush=True); time.sleep(600)", timeout="1 s"
    )
    call = call_hook(settings, describe("test"))
    assert "did not end within 1 s and was killed" in call.problem
    assert call.output in ("", "begun\n")  # "" where Python takes longer than that to begin


def test_output_is_bounded_and_any_bytes_will_do(tmp_path: Path) -> None:
    program = f"import sys; sys.stdout.buffer.write(b'\\xff' * {2 * OUTPUT_LIMIT})"
    call = call_hook(settings_for(tmp_path, program), describe("test", reason="a\0b", odd=object()))
    assert call.problem == ""
    assert call.output == "\ufffd" * OUTPUT_LIMIT


def test_the_engine_never_waits(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(settings: Settings, message: dict[str, object]) -> hooks_module.HookCall:
        entered.set()
        assert leave.wait(60)
        return hooks_module.HookCall(str(message["event"]), "", "", 0.0)

    monkeypatch.setattr(hooks_module, "call_hook", hold)
    failures: list[str] = []
    hooks = Hooks(settings_for(tmp_path, ""), run, failures.append)
    hooks.fire("fail")
    assert entered.wait(60)
    for _ in range(40):
        hooks.fire("trip")
    assert len(failures) == 40 - 32 and "left out" in failures[0]
    hooks.close(0.01)
    assert "still at work" in failures[-1]
    leave.set()
