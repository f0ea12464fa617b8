"""Commands that take data: demo, run, resume, extend, and the test of the hook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.options import Force, Json, Out, RunName, Seed, Speed, TwinSet, app


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

    extend_run(run, live_time=live_time, label=acquisition, root=out, force=force, speed=speed, as_json=json)


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
