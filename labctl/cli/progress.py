"""The progress bar of a run in a terminal: bench time done, time left, live count rates."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TerminalProgress:
    """Shows a bar on standard error, so that standard output stays clean."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, title: str, total_s: float) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rates]}"),
            console=self._console,
            refresh_per_second=5,
        )
        self._task = self._bar.add_task(title, total=total_s, rates="")
        self._bar.start()

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        if self._bar is not None and self._task is not None:
            shown = "  ".join(f"ch{channel} {rate / 1e3:.2f} kcps" for channel, rate in rates.items())
            self._bar.update(self._task, advance=seconds, rates=shown)

    def say(self, text: str) -> None:
        self._console.print(text)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
