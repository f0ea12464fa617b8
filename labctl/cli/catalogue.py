"""`labctl runs` and `labctl tag`: find runs, and say something about them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from labctl.cli.output import print_json, print_table, print_text
from labctl.cli.recovery import recover_dead_runs
from labctl.errors import LabctlError
from labctl.store.catalogue import Catalogue, Query, parse_condition
from labctl.store.summary import RunSummary

_COLUMNS = ["when", "run", "status", "duration", "sample", "tags", "about"]
_WHOLE_COLUMNS = 4
_LEAST_ABOUT = 12


class CatalogueError(LabctlError):
    """A question to the catalogue, or a tag, that is not understood."""


def show_runs(
    *,
    root: Path,
    as_json: bool,
    experiment: str,
    sample: str,
    status: str,
    tags: list[str],
    text: list[str],
    where: list[str],
    since: str,
    until: str,
    limit: int,
) -> None:
    """Print the runs that fit, newest first."""
    query = Query(
        experiment, sample, status, tuple(tags),
        text=tuple(word for words in text for word in words.split()),
        where=tuple(map(parse_condition, where)),
        since=_instant(since, "--since"), until=_instant(until, "--until", end=True), limit=limit,
    )  # fmt: skip
    recover_dead_runs(root)
    with Catalogue(root, _tell) as catalogue:
        if not catalogue.count():
            raise CatalogueError(
                f"no runs in {root}; give the folder with --out, or make one with `labctl demo`"
            )
        found, total = list(catalogue.search(query)), catalogue.count(query)
    if as_json:
        print_json({"runs": [_as_json(root, run) for run in found], "total": total})
        return
    if found:
        _print_runs(found)
    more = f", the newest {len(found)} of them shown (--limit)" if len(found) < total else ""
    print_text(f"{total} run{'' if total == 1 else 's'}{more}")


def tag_run(name: str, changes: list[str], *, root: Path, as_json: bool) -> None:
    """Add the tags written +tag and remove those written -tag; print what the run has then."""
    from labctl.cli.runs import find_run
    from labctl.store import change_tags, open_run

    for change in changes:
        if change[:1] not in ("+", "-"):
            raise CatalogueError(f"tag {change!r}: write +{change} to add it or -{change} to remove it")
    folder = open_run(find_run(name, root)).directory
    added = [change[1:] for change in changes if change[0] == "+"]
    removed = [change[1:] for change in changes if change[0] == "-"]
    labels = change_tags(folder, added, removed)
    tags = labels.tags(open_run(folder).header.get("tags") or ())
    if as_json:
        print_json({"run": str(folder), "tags": tags})
    else:
        print_text(f"{folder}: {' '.join(tags) or 'no tags'}")


def _instant(text: str, option: str, *, end: bool = False) -> float | None:
    """Seconds since 1970 of a local date or time; `end`: of the end of a date."""
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise CatalogueError(
            f"{option} {text!r} is no date; write 2026-01-31 or '2026-01-31 14:30'"
        ) from error
    is_date = len(text) <= len("2026-01-31")
    return (instant + timedelta(days=1) if end and is_date else instant).timestamp()


def _print_runs(runs: list[RunSummary]) -> None:
    """A table without columns that are empty throughout, the last one cut to the width of the terminal."""
    lines = [_line(run) for run in runs]
    kept = {*range(_WHOLE_COLUMNS), len(_COLUMNS) - 1}
    used = [n for n, _ in enumerate(_COLUMNS) if n in kept or any(line[n] for line in lines)]
    columns = [_COLUMNS[n] for n in used]
    rows = [[line[n] for n in used] for line in lines]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    borders = 3 * len(columns) + 1
    room = shutil.get_terminal_size().columns - sum(widths[:-1]) - borders
    for row in rows:
        row[-1] = textwrap.shorten(row[-1], max(room, _LEAST_ABOUT), placeholder="…")
    print_table("", columns, rows, unbroken=_WHOLE_COLUMNS)


def _line(run: RunSummary) -> list[str]:
    when = datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M")
    about = run.notes[0] if run.notes else run.reason if run.status != "success" and run.reason else run.title
    short = run.name.rpartition("/")[2].partition("_")[2]  # without the time, which is beside it
    return [when, short, run.status, _duration(run.duration_s), run.sample, " ".join(run.tags), about]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _as_json(root: Path, run: RunSummary) -> dict[str, Any]:
    started = datetime.fromtimestamp(run.started).astimezone().isoformat(timespec="seconds")
    return vars(run) | {"run": str(root / run.name), "started": started}


def _tell(done: int, total: int) -> None:
    """Where somebody is looking, say how far the reading of new runs is."""
    if sys.stderr.isatty() and total > done:
        sys.stderr.write(f"\rreading new runs: {done} of {total} ")
        sys.stderr.flush()
    elif sys.stderr.isatty() and total > 200:
        sys.stderr.write("\r\033[K")
