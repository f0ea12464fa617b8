"""`labctl run --dry-run`: what a run will be like, before any hardware is touched."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from labctl.cli.output import print_json, print_table, print_text, with_error
from labctl.cli.runs import make_experiment, parse_twin_settings, terminal_progress
from labctl.forecast import DryRun, Forecast, default_scale, dry_run

_FILES = 2
"""The journal and the file that is made from it exist together for a moment."""


def forecast_run(
    name: str,
    bench: str,
    *,
    settings: list[str],
    seed: int,
    scale: float | None,
    twin_settings: list[str],
    as_json: bool,
    root: Path,
) -> None:
    """Print the forecast; exit code 2 when the run would be stopped by an error."""
    experiment = make_experiment(name, settings)
    wanted = DryRun(
        name, experiment.parameters(), bench, default_scale(experiment) if scale is None else scale, seed,
        parse_twin_settings(twin_settings),
    )  # fmt: skip
    forecast = dry_run(wanted, terminal_progress(quiet=as_json))
    free_bytes = _free_bytes(root)
    problems = list(_problems(forecast, root, free_bytes))
    if as_json:
        print_json(asdict(forecast) | {"free_bytes": free_bytes, "problems": problems})
    else:
        _print(forecast, root, free_bytes)
    if problems:
        sys.stderr.write(f"labctl: the run would stop: {'; '.join(problems)}\n")
        sys.exit(2)


def _problems(forecast: Forecast, root: Path, free_bytes: int) -> Iterator[str]:
    if forecast.problem:
        yield f"{forecast.problem} ({forecast.problem_place})" if forecast.problem_place else forecast.problem
    needed_bytes = _FILES * forecast.disk_bytes
    if needed_bytes > free_bytes:
        yield (
            f"it needs {_bytes(needed_bytes)} with its journal, but {_bytes(free_bytes)} are free in {root}; "
            "make room or name another folder with --out"
        )


def _free_bytes(root: Path) -> int:
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _print(forecast: Forecast, root: Path, free_bytes: int) -> None:
    place = "" if forecast.bench == forecast.rehearsed_on else f", rehearsed on {forecast.rehearsed_on}"
    part = "" if forecast.scale >= 1 else f", at {forecast.scale:.3g} of its bench time"
    print_text(f"dry run of {forecast.experiment} for {forecast.bench}{place}{part}")
    _print_counts(forecast)
    _print_estimates(forecast)
    print_table("", ["what", "expected"], _needs(forecast, root, free_bytes))
    for note in forecast.notes:
        print_text(f"note: {note}")


def _print_counts(forecast: Forecast) -> None:
    rows = [
        [
            f"{item.sweep}, channel {item.channel}", str(item.acquisitions),
            f"{item.rate_hz:.4g} ({item.lowest_hz:.4g} .. {item.highest_hz:.4g})",
            f"{item.counts_per_acquisition:.4g}", f"{item.counts:.4g}",
        ]
        for item in forecast.counts
    ]  # fmt: skip
    columns = ["counts of", "acquisitions", "mean rate (lowest .. highest), 1/s", "each", "in all"]
    print_table("", columns, rows)


def _print_estimates(forecast: Forecast) -> None:
    if not forecast.estimates:
        return
    rows = [
        [item.quantity, with_error(asdict(item)), "" if item.truth is None else f"{item.truth:.4g}"]
        for item in forecast.estimates
    ]
    title = f"after {_duration(forecast.wall_time_s)} the estimates will be like these"
    print_table(title, ["quantity", "simulated estimate ± error", "truth of the twin"], rows)


def _needs(forecast: Forecast, root: Path, free_bytes: int) -> list[list[str]]:
    per_point_s = forecast.link_time_s / max(forecast.points, 1)
    commands = sum(link.commands for link in forecast.links)
    per_tag = "" if forecast.bytes_per_tag is None else f", {forecast.bytes_per_tag:.2f} bytes per tag"
    return [
        ["bench time", _duration(forecast.bench_time_s)],
        ["wall time on real instruments", _duration(forecast.wall_time_s)],
        ["of which commands", f"{commands} in {forecast.link_time_s:.2f} s, {per_point_s:.3f} s per point"],
        ["disk need", f"{_bytes(forecast.disk_bytes)}{per_tag}; {_bytes(free_bytes)} are free in {root}"],
    ]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
