"""Commands on what there is: experiments, benches, twins."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli.options import Json, Seed, Speed, app


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
