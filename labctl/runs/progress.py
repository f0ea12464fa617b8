"""Who watches a run: the engine tells, and never waits for the viewer."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What the engine tells while it runs."""

    def start(self, title: str, total_s: float) -> None:
        """A run of `total_s` of bench time begins."""
        ...

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        """`seconds` of bench time were acquired; `rates` are the present count rates in 1/s."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...

    def finish(self) -> None:
        """The run is over."""
        ...


class Silent:
    """Nobody watches."""

    def start(self, title: str, total_s: float) -> None:
        pass

    def advance(self, seconds: float, rates: dict[str, float]) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass
