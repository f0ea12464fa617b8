"""Commands to a run that lives: pause, continue, stop, abort, note, status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.options import Json, Out, RunName, app

LiveRun = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Folder or name of a run; the newest that lives.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


@app.command()
def pause(
    run: LiveRun = None,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for the end of the point.")] = False,
    keep_light: Annotated[
        bool, typer.Option("--keep-light", help="Leave shutters and outputs as they are.")
    ] = False,
    reason: Reason = "",
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Pause a live run.

    After the present point, or at once with --now; an acquisition that is cut goes on later. The
    shutters are closed and the outputs blanked meanwhile.
    """
    from labctl.cli.control import pause_run

    pause_run(run, root=out, now=now, keep_light=keep_light, reason=reason, as_json=json)


@app.command("continue")
def continue_(run: LiveRun = None, reason: Reason = "", json: Json = False, out: Out = Path("runs")) -> None:
    """Let a paused run go on."""
    from labctl.cli.control import command_run

    command_run("continue", run, root=out, reason=reason, as_json=json)


@app.command()
def stop(run: LiveRun = None, reason: Reason = "", json: Json = False, out: Out = Path("runs")) -> None:
    """Stop a live run after the present point."""
    from labctl.cli.control import command_run

    command_run("stop", run, root=out, reason=reason, as_json=json)


@app.command()
def abort(run: LiveRun = None, reason: Reason = "", json: Json = False, out: Out = Path("runs")) -> None:
    """Stop a live run now; the point in hand is given up."""
    from labctl.cli.control import command_run

    command_run("abort", run, root=out, reason=reason, as_json=json)


@app.command()
def note(
    run: RunName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is worth remembering.")],
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Write a note into a run."""
    from labctl.cli.control import write_note

    write_note(run, text, root=out, as_json=json)


@app.command()
def status(run: LiveRun = None, json: Json = False, out: Out = Path("runs")) -> None:
    """Show which runs live, and how they are."""
    from labctl.cli.control import show_status

    show_status(run, root=out, as_json=json)
