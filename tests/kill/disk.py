"""What a run left on disk, held against what it meant to write and what it was told is safe."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError
from labctl.store import RunData, finish_journal, list_runs, open_run
from tests.kill.acknowledged import block_summary
from tests.kill.trial import Trial

Record = dict[str, Any]


def check_disk(trial: Trial, root: Path, log: Path) -> list[str]:
    """What is wrong with the run under `root`, one line each; empty when all is well.

    Checked as the process left it and again after recovery.
    """
    runs = [info.path for info in list_runs(root)] if root.exists() else []
    if trial.phase == "connecting":
        return [f"a run was made before the bench was open: {path}" for path in runs]
    if len(runs) != 1:
        return [f"{len(runs)} runs instead of one under {root}"]
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    try:
        left = open_run(runs[0])
        failures = [] if left.status in trial.statuses else [
            f"status {left.status!r} ({left.reason}), expected one of {sorted(trial.statuses)}"
        ]  # fmt: skip
        failures += [f"as left: {failure}" for failure in _compare(left, entries)]
        recovered = open_run(finish_journal(runs[0]))
        failures += [f"recovered: {failure}" for failure in _compare(recovered, entries)]
    except (LabctlError, OSError, ValueError, KeyError) as error:
        return [f"the run cannot be read: {type(error).__name__}: {error}"]
    if recovered.path.name != "run.h5" or list(runs[0].glob("*.journal")) or list(runs[0].glob("*.tmp")):
        failures.append(f"not one run file after recovery: {sorted(f.name for f in runs[0].iterdir())}")
    return failures


def _compare(run: RunData, entries: list[Record]) -> list[str]:
    found = Counter(map(_text, [*_rows(run), *_blocks(run)]))
    told = {what: Counter(_text(_record(e)) for e in entries if e["what"] == what)
            for what in ("intended", "acknowledged")}  # fmt: skip
    lost = told["acknowledged"] - found
    garbage = found - told["intended"]
    return [f"lost: {text}" for text in lost] + [f"garbage: {text}" for text in garbage]


def _record(entry: Record) -> Record:
    return {key: value for key, value in entry.items() if key != "what"}


def _text(record: Record) -> str:
    return json.dumps(record, sort_keys=True)


def _rows(run: RunData) -> list[Record]:
    records = []
    for sweep in run.sweeps:
        columns = {name: column.tolist() for name, column in run.rows(sweep).items()}
        fixed = {name: columns.pop(name) for name in ("index", "attempt", "time", "wall_time")}
        for number, (index, attempt) in enumerate(zip(fixed["index"], fixed["attempt"], strict=True)):
            values = {name: column[number] for name, column in columns.items()}
            records.append(
                {"kind": "row", "sweep": sweep, "index": index, "attempt": attempt, "values": values}
            )
    return records


def _blocks(run: RunData) -> list[Record]:
    acquisitions = getattr(run, "all_acquisitions", run.acquisitions)
    return [
        {"kind": "tags", "acquisition": acquisition.id, **block_summary(block)}
        for acquisition in acquisitions
        for block in run.tag_blocks(acquisition)
    ]
