"""The progress of a run in a terminal: state, bench time done, points, time left, live count rates."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from labctl.runs.progress import Silent, Tracker, time_text

_USUAL = ("", "idle", "running")
_ENDING = ("stopping", "aborting", "finishing", "done", "aborted", "failed")
_ENDING_LEAVES_OUT = {"left_s", "rates"}


class TerminalProgress:
    """Shows a bar on standard error, so that standard output stays clean."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._tracker = Tracker()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def start(self, title: str, total_s: float) -> None:
        self._tracker.start(title, total_s)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} s"),
            TimeElapsedColumn(),
            _Story(self._tracker),
            console=self._console,
            refresh_per_second=5,
        )
        self._task = self._bar.add_task(title, total=total_s)
        self._bar.start()

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        self._tracker.advance(seconds, rates)
        if self._bar is not None:
            self._bar.update(self._task, advance=seconds)

    def points(self, done: int, total: int) -> None:
        self._tracker.points(done, total)

    def state(self, text: str) -> None:
        self._tracker.state(text)

    def say(self, text: str) -> None:
        self._console.print(text)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class SaidOnly(Silent):
    """No bar, but the lines for the user on standard error: that a run waits, for instance, and for what."""

    def say(self, text: str) -> None:
        sys.stderr.write(f"labctl: {text}\n")
        sys.stderr.flush()


class _Story(ProgressColumn):
    """Time left, points, rates; where the state is not the usual one, that instead of what it makes idle."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        super().__init__()

    def render(self, task: Task) -> Text:
        state, details = self._tracker.state_text, self._tracker.details()
        shown = [] if state in _USUAL else [state]
        left_out = _ENDING_LEAVES_OUT if state in _ENDING else {"rates"} if shown else set()
        told = {key: value for key, value in details.items() if key not in left_out}
        return Text("  ".join([*shown, story(told)]), no_wrap=True, overflow="ellipsis")


def story(details: Mapping[str, Any]) -> str:
    """`Tracker.details` of a run in one line: `left 0:12:30  point 3/20  ch1 12.30 kcps`."""
    left = [f"left {time_text(details['left_s'])}"] if "left_s" in details else []
    points = [f"point {details['point']}"] if "point" in details else []
    rates = [f"ch{name} {rate / 1e3:.2f} kcps" for name, rate in details.get("rates", {}).items()]
    return "  ".join(left + points + rates)
