"""Commands on what is stored: show, plot, recover, analyze, runs, tag, diff, explain, calibrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.options import Json, Out, RunName, app


@app.command()
def show(run: RunName = "last", json: Json = False, out: Out = Path("runs")) -> None:
    """Show what a stored run holds.

    Parameters, how it ended, its acquisitions, and what its analysis found.
    """
    from labctl.cli.runs import show_run

    show_run(run, root=out, as_json=json)


@app.command()
def plot(
    run: RunName = "last",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write the figure.")] = None,
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Analyse a stored run again and draw its figure."""
    from labctl.cli.runs import plot_run

    plot_run(run, root=out, output=output, as_json=json)


@app.command()
def recover(run: RunName, json: Json = False, out: Out = Path("runs")) -> None:
    """Complete the file of a run whose process died.

    The file is made from the journal; a finished run is left as it is.
    """
    from labctl.cli.runs import recover_run

    recover_run(run, root=out, as_json=json)


@app.command()
def runs(
    experiment: Annotated[str, typer.Option("--experiment", help="Only runs of this experiment.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help="A parameter with its unit: --where 'dwell>10 s'"),
    ] = None,
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="Begun on this day or later.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="Begun on this day or before.")] = "",
    sample: Annotated[str, typer.Option("--sample", help="Only of this sample.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag.")] = None,
    status: Annotated[str, typer.Option("--status", help="success, abort, fail, recovered, ...")] = "",
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="WORDS", help="All these words in title, notes, tags, ..."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="The newest so many; 0 for all.")] = 50,
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Find runs, the newest first.

    All conditions must hold; --where, --tag and --text may be given several times.
    """
    from labctl.cli.catalogue import show_runs

    show_runs(
        root=out, as_json=json, experiment=experiment, sample=sample, status=status, tags=tag or [],
        text=text or [], where=where or [], since=since, until=until, limit=limit,
    )  # fmt: skip


@app.command(context_settings={"ignore_unknown_options": True})
def tag(
    run: RunName,
    tags: Annotated[list[str], typer.Argument(metavar="+TAG|-TAG...", help="Tags to add and to remove.")],
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Give a run tags, and take them away: labctl tag last +good -check.

    The tags are kept beside the run; its file is not changed.
    """
    from labctl.cli.catalogue import tag_run

    tag_run(run, tags, root=out, as_json=json)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="RUN1", help="Folder or name of a run, or `last`.")],
    second: Annotated[str, typer.Argument(metavar="RUN2", help="The run to compare it with.")],
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Show what differs between two runs.

    Parameters, bench file, calibrations, instrument settings, identities, code, packages, circumstances,
    and estimates with their difference in standard errors.
    """
    from labctl.cli.compare import diff_runs

    diff_runs(first, second, root=out, as_json=json)


@app.command()
def explain(
    run: RunName,
    point: Annotated[str, typer.Argument(help="INDEX, SWEEP:INDEX or SWEEP:INDEX:ATTEMPT.")],
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Show what led to a point of a run.

    Every set, event and acquisition since the point before it, in the order of bench time, and every
    setting that it was taken with.
    """
    from labctl.cli.compare import explain_point

    explain_point(run, point, root=out, as_json=json)


@app.command()
def calibrations(
    bench: Annotated[str | None, typer.Option("--bench", help="Only those of this bench.")] = None,
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """List the calibrations in use.

    Value and error, age, validity, and the run that made each one.
    """
    from labctl.cli.calibrations import list_calibrations

    list_calibrations(bench=bench, root=out, as_json=json)


@app.command()
def analyze(
    file: Annotated[Path, typer.Argument(help="A PicoQuant recording (.ptu, .ht3).")],
    pair: Annotated[
        tuple[int, int] | None,
        typer.Option("--pair", metavar="A B", help="The two channels to correlate; every pair if left out."),
    ] = None,
    window: Annotated[str, typer.Option("--window", help="Largest lag.")] = "100 ns",
    bin_: Annotated[str, typer.Option("--bin", help="Width of a lag bin.")] = "1 ns",
    pulsed: Annotated[
        int | None,
        typer.Option("--pulsed", min=1, help="Count T3 coincidences by pulse number from -N to N."),
    ] = None,
    store: Annotated[bool, typer.Option("--store", help="Import the recording as a run.")] = False,
    figure: Annotated[Path | None, typer.Option("--figure", help="Where to write the figure.")] = None,
    json: Json = False,
    out: Out = Path("runs"),
) -> None:
    """Analyse a time-tag recording from a file.

    Channels, rates, self-audit, correlations, decays for T3, and a figure. Lags are tau = t_second -
    t_first in half-open bins over [-window, window).
    """
    from labctl.cli.recordings import analyze_file

    analyze_file(
        file, pair=pair, window=window, bin_=bin_, pulsed=pulsed, store=store, figure=figure,
        as_json=json, root=out,
    )  # fmt: skip
