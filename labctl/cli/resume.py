"""`labctl resume` and `labctl extend`: go on with a run that was cut off, or add to a finished one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.bench.bench import TwinOptions
from labctl.cli.runs import ParameterError, check_writable, find_run, report, terminal_progress
from labctl.quantities import parse_quantity
from labctl.runs.execute import conclude, take_run
from labctl.runs.lookup import experiment_of
from labctl.runs.past import Past
from labctl.runs.session import CannotResume, Continuation
from labctl.store import RunData, open_run


def resume_run(name: str, *, root: Path, force: bool, speed: float | None, as_json: bool) -> None:
    """Go on at the first point that was not committed. Raises CannotResume, saying what differs."""
    data = open_run(find_run(name, root, recover=False))  # a journal needs no completing to be gone on with
    _refuse_live(data)
    if data.status == "success":
        raise CannotResume(
            f"{data.directory} was taken to its end; add live time with `labctl extend`, or run it again"
        )
    _go_on(data, Continuation(data.directory, Past.of(data), force=force), root, speed, as_json)


def extend_run(
    name: str,
    *,
    live_time: str,
    label: str | None,
    root: Path,
    force: bool,
    speed: float | None,
    as_json: bool,
) -> None:
    """Add live time to an acquisition of a finished run, in a new run that begins with all of the old."""
    data = open_run(find_run(name, root))
    _refuse_live(data)
    if data.status != "success":
        raise CannotResume(
            f"{data.directory} ended with {data.status!r}; finish it with `labctl resume` first"
        )
    extra_s = parse_quantity(live_time, "s")
    if extra_s <= 0:
        raise ParameterError(f"--live-time {live_time}: must be positive")
    chosen = label or _longest(data)
    known = list(dict.fromkeys(item.sweep for item in data.acquisitions))
    if chosen not in known:
        raise ParameterError(
            f"{data.directory} has no acquisition {chosen!r}; it has {', '.join(known) or 'none'}"
        )
    extra = {chosen: extra_s / sum(item.sweep == chosen for item in data.acquisitions)}
    _go_on(
        data, Continuation(data.directory, Past.of(data, extend=chosen), extra, force), root, speed, as_json
    )


def _refuse_live(data: RunData) -> None:
    if data.status == "running":
        raise CannotResume(f"{data.directory} still runs; see `labctl status`")


def _longest(data: RunData) -> str:
    """The label or sweep with the most live time."""
    totals: dict[str, int] = {}
    for item in data.acquisitions:
        totals[item.sweep] = totals.get(item.sweep, 0) + item.live_time_ps
    if not totals:
        raise ParameterError(f"{data.directory} has no acquisition to add live time to")
    return max(totals, key=lambda sweep: totals[sweep])


def _bench_of(header: Mapping[str, Any]) -> str:
    """The bench file that the run used, by its place; by its name if it is not there any more."""
    file = header.get("bench_file")
    return file if file and Path(file).is_file() else str(header["bench"])


def _go_on(data: RunData, continuation: Continuation, root: Path, speed: float | None, as_json: bool) -> None:
    if data.experiment and not experiment_of(data).resumable:
        raise CannotResume(f"{data.experiment} cannot go on where it was cut: it says `resumable = False`")
    check_writable(root)
    header = data.header
    twin = TwinOptions(seed=header.get("seed", 0), overrides=header.get("twin_overrides"), speed=speed)
    taken = take_run(
        experiment_of(data), _bench_of(header), root=root, twin=twin,
        progress=terminal_progress(quiet=as_json), command=shlex.join(["labctl", *sys.argv[1:]]),
        continuation=continuation,
    )  # fmt: skip
    report(conclude(taken), as_json=as_json)
