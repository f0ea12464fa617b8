"""What the terminal shows of a run."""

import io

from rich.console import Console

from labctl.cli.progress import TerminalProgress, story
from labctl.runs.progress import Tracker


def test_the_story_of_a_run():
    tracker = Tracker(wall=lambda: 0.0)
    tracker.start("hbt", 90.0)
    assert story(tracker.details()) == "left 0:01:30"
    tracker.points(3, 20)
    tracker.advance(30.0, {"1": 12_300.0, "2": 450.0})
    assert story(tracker.details()) == "left 0:01:00  point 3/20  ch1 12.30 kcps  ch2 0.45 kcps"


def test_a_run_that_tells_nothing_of_itself():
    assert story({}) == ""


def test_the_terminal_shows_bar_and_lines():
    written = io.StringIO()
    progress = TerminalProgress(Console(file=written, force_terminal=True, width=160))
    progress.say("before")
    progress.start("delay_scan", 40.0)
    progress.state("running")
    progress.points(1, 8)
    progress.advance(10.0, {"1": 5000.0})
    progress.state("suspended")
    progress.say("suspended: too warm")
    progress.finish()
    progress.finish()
    shown = written.getvalue()
    for words in ("before", "delay_scan", "25%", "10/40 s", "suspended  left", "point 1/8"):
        assert words in shown
    assert "suspended: too warm" in shown and "kcps" not in shown
