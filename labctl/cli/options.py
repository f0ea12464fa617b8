"""The command line application, and the options that several commands share."""

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

Force = Annotated[bool, typer.Option("--force", help="Go on although something differs; it is recorded.")]
