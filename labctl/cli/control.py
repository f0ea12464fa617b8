"""`labctl pause`, `continue`, `stop`, `abort`, `note` and `status`: what is asked of a run that lives."""

from __future__ import annotations

from pathlib import Path

from labctl.cli.output import print_json, print_table, print_text
from labctl.cli.progress import story
from labctl.cli.runs import find_run
from labctl.runs.progress import WAITING
from labctl.runs.remote import (
    Kind,
    NoLiveRun,
    RemoteError,
    Reply,
    ask_status,
    live_runs,
    send_command,
)
from labctl.store import RunInfo, add_note, list_orphans, open_run

_ASKED: dict[Kind, str] = {
    "pause": "asked to pause after the present point",
    "pause_now": "asked to pause now",
    "continue": "asked to go on",
    "stop": "asked to stop after the present point",
    "abort": "asked to stop now",
    "note": "noted",
}


def command_run(kind: Kind, run: str | None, *, root: Path, reason: str, as_json: bool) -> None:
    """Send a command to a run, the newest that lives if none is named. Raises RemoteError."""
    folder = _folder(run, root)
    _report(folder, kind, send_command(folder, kind, reason), as_json)


def pause_run(
    run: str | None, *, root: Path, now: bool, keep_light: bool, reason: str, as_json: bool
) -> None:
    """Pause a run, after the present point or now, with the light off unless it shall stay on."""
    folder = _folder(run, root)
    if keep_light:
        send_command(folder, "keep_light", reason)
    kind: Kind = "pause_now" if now else "pause"
    _report(folder, kind, send_command(folder, kind, reason), as_json)


def write_note(run: str, text: str, *, root: Path, as_json: bool) -> None:
    """Write a note into a run that lives, or beside one that is over."""
    folder = find_run(run, root, recover=False)
    try:
        _report(folder, "note", send_command(folder, "note", text), as_json)
    except NoLiveRun:
        add_note(folder, text)
        if as_json:
            print_json({"run": str(folder), "asked": "note", "state": open_run(folder).status})
        else:
            print_text(f"{folder.name}: noted")


def show_status(run: str | None, *, root: Path, as_json: bool) -> None:
    """Print how a run is, or all that live if none is named."""
    if run is None:
        replies = live_runs(root)
    else:
        folder = _folder(run, root)
        replies = {folder: ask_status(folder)}
    if as_json:
        print_json({"runs": [_as_json(folder, reply) for folder, reply in replies.items()]})
    elif not replies:
        print_text("; ".join([f"no run lives in {root}", *map(_dead, list_orphans(root))]))
    else:
        rows = [[folder.name, reply.state, _how(reply)] for folder, reply in replies.items()]
        print_table("", ["run", "state", "how it is"], rows)


def _dead(run: RunInfo) -> str:
    return f"the process of {run.path.name} has died, and `labctl resume {run.path.name}` goes on with it"


def _how(reply: Reply) -> str:
    """Why a run waits, and how far it is."""
    why = f"{reply.details.get('reason', '')}  " if reply.state in WAITING else ""
    return why + story(reply.details)


def _folder(run: str | None, root: Path) -> Path:
    if run is not None:
        return find_run(run, root, recover=False)  # an abort does not wait for the repair of other runs
    live = live_runs(root)
    if not live:
        raise RemoteError(f"no run lives in {root}; name its folder, or give the folder of runs with --out")
    return next(iter(live))


def _report(folder: Path, kind: Kind, reply: Reply, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(folder, reply) | {"asked": kind})
    else:
        print_text(f"{folder.name}: {_ASKED[kind]} (it was {reply.state})")


def _as_json(folder: Path, reply: Reply) -> dict[str, object]:
    return {"run": str(folder), "state": reply.state, **reply.details}
