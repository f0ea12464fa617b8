"""The commands of `labctl` and their options; what they do is in the modules they call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="labctl",
    help="Control laboratory instruments and run quantum-optics experiments, on the bench or on its twin.\n\n"
    "Start with `labctl demo`: three experiments on a simulated bench, in under a minute.\n"
    "Then `labctl list`, `labctl run delay_scan --bench sim_dot`, `labctl show last`.",
    add_completion=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Out = Annotated[Path, typer.Option("--out", help="Folder that collects the runs.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the twin and of the order of points.")]
Speed = Annotated[
    float | None,
    typer.Option(
        "--speed", min=1e-3, help="Twin seconds per wall second; as fast as it can be computed if left out."
    ),
]
TwinSet = Annotated[
    list[str] | None,
    typer.Option(
        "--twin-set", metavar="PATH=VALUE", help="Give the twin another truth: world.dot.tau_x_s=21e-9"
    ),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Folder or name of a run, or `last`.")]


@app.command()
def demo(
    seed: Seed = 0,
    json: Json = False,
    out: Out = Path("runs"),
    speed: Speed = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=5, help="Bench time of all acquisitions together, in s.")
    ] = None,
) -> None:
    """See it work: three experiments on a simulated bench.

    Delay scan, blinking control and photon correlation of one quantum dot on the bench `sim_dot`. Prints
    the estimates beside the hidden truth of the twin. Runs and figures are kept in --out.
    """
    from labctl.cli.demo import run_demo

    run_demo(seed=seed, as_json=json, root=out, speed=speed, duration_s=duration)


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment; `labctl list` shows them.")],
    bench: Annotated[str, typer.Option("--bench", help="Name or file of the bench.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help='A parameter with its unit: --set dwell="30 s"'),
    ] = None,
    seed: Seed = 0,
    json: Json = False,
    out: Out = Path("runs"),
    speed: Speed = None,
    twin_set: TwinSet = None,
    operator: Annotated[str, typer.Option("--operator", help="Who measures.")] = "",
    sample: Annotated[str, typer.Option("--sample", help="What is measured.")] = "",
    position: Annotated[str, typer.Option("--position", help="Where on the sample.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A word to find the run by.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only rehearse on a twin: limits, time, disk, counts and errors."),
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option("--scale", min=1e-4, max=1.0, help="Part that a dry run takes; default: 30 min of it."),
    ] = None,
) -> None:
    """Run one experiment on a bench and analyse it.

    Leaves HDF5 file, figure and estimates in a folder below --out. Ctrl-C once stops after the present
    point, twice stops now; either way all emission is switched off and the file is completed. Three times
    ends the program on the spot: its guardian makes everything safe, and `labctl resume` goes on.
    """
    if dry_run:
        if speed is not None:
            raise typer.BadParameter("a dry run is as fast as it can be computed; leave out --speed")
        from labctl.cli.dry_run import forecast_run

        forecast_run(
            experiment, bench, settings=set_ or [], seed=seed, scale=scale, twin_settings=twin_set or [],
            as_json=json, root=out,
        )  # fmt: skip
        return
    if scale is not None:
        raise typer.BadParameter("--scale shortens a dry run; add --dry-run")
    from labctl.cli.runs import run_experiment
    from labctl.settings import load_settings

    labels = load_settings().run.replaced(
        operator=operator, sample=sample, position=position, tags=tuple(tag or ())
    )
    run_experiment(
        experiment, bench, settings=set_ or [], seed=seed, as_json=json, root=out, speed=speed,
        twin_settings=twin_set or [], labels=labels,
    )  # fmt: skip


@app.command("list")
def list_(
    experiment: Annotated[str | None, typer.Argument(help="Show only this experiment.")] = None,
    json: Json = False,
) -> None:
    """List experiments, their parameters, and benches.

    Each parameter with its unit, default and bounds; each experiment with the roles that it needs.
    """
    from labctl.cli.listing import list_all

    list_all(experiment, as_json=json)


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
def check(
    bench: Annotated[str, typer.Argument(help="Name or file of the bench.")], json: Json = False
) -> None:
    """Connect to every instrument of a bench.

    Reports the identity and state of each one, or why it does not answer.
    """
    from labctl.cli.benches import check_instruments

    check_instruments(bench, as_json=json)


@app.command()
def twin(
    name: Annotated[str, typer.Argument(help="Name or file of the twin.")],
    seed: Seed = 0,
    speed: Speed = 1.0,
    json: Json = False,
) -> None:
    """Start a simulated bench that stays.

    Prints the addresses of its instruments; Ctrl-C ends it.
    """
    from labctl.cli.benches import serve_twin

    serve_twin(name, seed=seed, speed=speed, as_json=json)


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


hook = typer.Typer(help="The command that labctl.toml names for what happens to runs.", rich_markup_mode=None)
app.add_typer(hook, name="hook")


@hook.callback()
def _hook() -> None:
    """Without it typer would take the only command for the whole group."""


@hook.command("test")
def hook_test(json: Json = False) -> None:
    """Call the command of labctl.toml with the event `test` and say what came of it."""
    from labctl.cli.hooks import try_hook

    try_hook(as_json=json)


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
def continue_(
    run: LiveRun = None, reason: Reason = "", json: Json = False, out: Out = Path("runs")
) -> None:
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


Force = Annotated[bool, typer.Option("--force", help="Go on although something differs; it is recorded.")]


@app.command()
def resume(
    run: RunName, force: Force = False, json: Json = False, out: Out = Path("runs"), speed: Speed = None
) -> None:
    """Go on with a run that was cut off, aborted or failed.

    Committed points are passed over, a cut acquisition is completed. Refuses, saying what differs, when
    bench, instruments, code or parameters are not as they were.
    """
    from labctl.cli.resume import resume_run

    resume_run(run, root=out, force=force, speed=speed, as_json=json)


@app.command()
def extend(
    run: RunName,
    live_time: Annotated[str, typer.Option("--live-time", help='What to add, as in "200 s".')],
    acquisition: Annotated[
        str | None, typer.Option("--acquisition", help="Its label or sweep; that with the most live time.")
    ] = None,
    force: Force = False,
    json: Json = False,
    out: Out = Path("runs"),
    speed: Speed = None,
) -> None:
    """Add live time to a finished run.

    Makes a new run that begins with everything the old one holds; the old one stays as it is.
    """
    from labctl.cli.resume import extend_run

    extend_run(
        run, live_time=live_time, label=acquisition, root=out, force=force, speed=speed, as_json=json
    )


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
