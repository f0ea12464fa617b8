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
) -> None:
    """Run one experiment on a bench and analyse it.

    Leaves HDF5 file, figure and estimates in a folder below --out. Ctrl-C once stops after the present
    point, twice stops now; either way all emission is switched off
    and the file is completed.
    """
    from labctl.cli.runs import run_experiment

    run_experiment(
        experiment, bench, settings=set_ or [], seed=seed, as_json=json, root=out, speed=speed,
        twin_settings=twin_set or [],
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
