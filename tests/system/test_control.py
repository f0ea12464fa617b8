"""Commands to a real run in another process, and what they do to the light."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labctl.bench.twin_client import TwinProcess
from labctl.cli.runs import ABORTED_EXIT_CODE
from labctl.store import RunData, open_run
from tests.system.conftest import CommandResult, furnish, run_labctl
from tests.system.live import DARK, LiveRun, attached_bench, await_true, command, is_lit, lights, live

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="serial instruments of the twin need POSIX")
LONG = ("run", "hold_light", "--bench", "bench.yaml", "--set", "points=100000")


@dataclass
class Seen:
    """What was seen of one run that was asked this and that."""

    second: CommandResult
    said: dict[str, str] = field(default_factory=dict)
    light: dict[str, object] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    code: int = -1
    out: str = ""
    err: str = ""
    data: RunData | None = None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("control"))


@pytest.fixture(scope="module")
def twin(lab: Path) -> Iterator[TwinProcess]:
    with attached_bench(lab / "bench.yaml") as twin:
        yield twin


@pytest.fixture(scope="module")
def seen(lab: Path, twin: TwinProcess) -> Seen:
    """One run is paused, lit in its pause, continued, paused at once and stopped; all tests look at it."""
    with live(lab, *LONG) as run:
        run.await_points(2)
        found = Seen(run_labctl(lab, *LONG))
        walk_through(lab, twin, run, found)
        found.code, found.out, found.err = run.ended()
    found.light["stopped"] = lights(twin)
    found.data = open_run(next((lab / "runs").glob("*/*hold_light*")))
    return found


def walk_through(lab: Path, twin: TwinProcess, run: LiveRun, found: Seen) -> None:
    def ask(what: str, *arguments: str) -> None:
        done = command(lab, *arguments)
        assert done.exit_code == 0 and done.stderr == "", done
        found.said[what] = done.stdout

    ask("running", "status")
    found.light["running"] = is_lit(twin)
    ask("pause", "pause", "--reason", "lunch")
    run.await_state("paused")
    found.light["paused"] = lights(twin)
    ask("paused", "status")
    ask("keep", "pause", "--keep-light")
    found.light["kept"] = await_true(lambda: is_lit(twin), "light in the pause")
    ask("note", "note", "last", "sample moved")
    ask("continue", "continue")
    run.await_points(run.points() + 2)
    ask("pause now", "pause", "--now", "--json")
    run.await_state("paused")
    found.light["paused now"] = lights(twin)
    ask("continue", "continue")
    run.await_points(run.points() + 2)
    ask("stop", "stop", "--reason", "enough")


def test_status_tells_points_time_left_and_rates(seen: Seen) -> None:
    for words in ("hold_light", "running", "left ", "/100000", "ch1 "):
        assert words in seen.said["running"]
    assert "paused" in seen.said["paused"] and "lunch" in seen.said["paused"]


def test_a_second_run_is_refused_and_the_first_one_named(seen: Seen) -> None:
    assert (seen.second.exit_code, seen.second.stdout) == (2, "")
    last = seen.second.stderr.splitlines()[-1]
    assert last.startswith("labctl: ") and "is held by `labctl run hold_light --bench bench.yaml" in last


def test_a_pause_is_dark_unless_the_light_is_kept(seen: Seen) -> None:
    assert seen.light["running"] is True
    assert seen.light["paused"] == seen.light["paused now"] == seen.light["stopped"] == DARK
    assert seen.light["kept"] is True


def test_the_user_is_told_how_it_goes_on(seen: Seen) -> None:
    assert "paused: lunch; `labctl continue` goes on" in seen.err and "Traceback" not in seen.err
    assert seen.code == ABORTED_EXIT_CODE
    assert "status abort: enough" in seen.out and "`labctl resume last` goes on" in seen.out


def test_the_file_tells_of_every_state(seen: Seen) -> None:
    assert seen.data is not None
    states = [event["state"] for event in seen.data.events if event["kind"] == "state"]
    pause = ["paused", "running"]
    expected = ["running", *pause, *pause, "stopping", "finishing", "aborted"]
    assert [state for state in states if state != "pausing"] == expected
    reasons = [event["reason"] for event in seen.data.events if event.get("state") == "paused"]
    assert reasons == ["lunch", "`labctl pause --now`"]
    assert [event["text"] for event in seen.data.events if event["kind"] == "note"] == ["sample moved"]
    assert any(event["kind"] == "keep_light_on_pause" for event in seen.data.events)


def test_what_was_counted_is_whole(seen: Seen) -> None:
    assert seen.data is not None
    rows = seen.data.rows("points")
    assert rows["index"].tolist() == list(range(len(rows["index"])))
    assert {item.live_time_ps for item in seen.data.acquisitions} == {500_000_000_000}
    # some 6000 counts each, a dark block in one would halve them
    assert rows["rate"].min() > 0.8 * rows["rate"].mean()


def test_abort_ends_it_now_and_in_the_dark(lab: Path, twin: TwinProcess, seen: Seen) -> None:
    with live(lab, *LONG, "--set", "dwell=1 h") as run:
        run.await_state("running")
        await_true(lambda: is_lit(twin), "light")
        assert command(lab, "abort").exit_code == 0
        code, out, err = run.ended()
    assert code == ABORTED_EXIT_CODE and "`labctl abort`" in out and "Traceback" not in err
    assert lights(twin) == DARK
