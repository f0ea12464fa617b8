"""`python -m labctl.twin --config X.yaml --seed S`: run a simulated bench as a process of its own.

One line of JSON on stdout says where its control port is, or {"error": why} when it cannot start;
everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from labctl.errors import LabctlError
from labctl.twin.host import DeviceSpec
from labctl.twin.process import Bench, RunningTwin, Terms, end_on_signals

Builder = Callable[[Path, int | None, Mapping[str, Any]], Bench]
"""Makes the bench of a configuration file, a seed (None: the file's own) and overrides."""

_log = logging.getLogger("labctl.twin")


def build_bench(config_path: Path, seed: int | None, overrides: Mapping[str, Any]) -> Bench:
    """The bench that a twin's YAML file describes. Raises ConfigError."""
    from labctl.twin.config import load_twin
    from labctl.twin.world import World

    config = load_twin(config_path, overrides)
    seed = config.seed if seed is None else seed
    devices = {name: _spec(device) for name, device in config.devices.items()}
    return Bench(config.name, seed, World(config.world, seed), devices)


def _reason(error: Exception) -> str:
    """The text of an error that says what to mend; of any other also its kind."""
    return str(error) if isinstance(error, LabctlError | ValueError) else f"{type(error).__name__}: {error}"


def _spec(device: Any) -> DeviceSpec:
    """The option `clients: many` is the host's, all others are the simulator's."""
    options = dict(device.options)
    many = options.pop("clients", "one") == "many"
    return DeviceSpec(device.sim, device.transport, options, device.vendor_module or "", many)


def main(arguments: Sequence[str] | None = None, build: Builder = build_bench) -> int:
    """Run a twin until it is over; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        bench = build(options.config, options.seed, dict(options.set))
        process = RunningTwin(bench, Terms(options.speed, options.orphan_s, tuple(options.parent_pid)))
    except Exception as error:
        _log.error("the twin cannot start: %s", error, exc_info=options.log_level == "DEBUG")
        sys.stdout.write(json.dumps({"error": _reason(error)}) + "\n")
        return 2
    end_on_signals(process, has_parent=bool(options.parent_pid))
    process.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labctl.twin", description="Run a simulated bench.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the twin")
    parser.add_argument("--seed", type=int, help="seed of all its randomness; default: the file's")
    parser.add_argument(
        "--set", type=_override, action="append", default=[], metavar="PATH=VALUE",
        help="replace a value of the file, e.g. world.dot.tau_x_s=2.1e-8",
    )  # fmt: skip
    parser.add_argument("--speed", type=float, help="world s per wall s; default: as fast as computed")
    parser.add_argument("--orphan-s", type=float, default=600.0, help="end after so long without a client")
    parser.add_argument(
        "--parent-pid", type=int, action="append", default=[], metavar="PID",
        help="end when all processes given so are gone and nobody is connected",
    )  # fmt: skip
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def _override(text: str) -> tuple[str, Any]:
    """ "world.dot.tau_x_s=2.1e-8" as a path and a YAML value."""
    path, equals, value = text.partition("=")
    if not (path and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH=VALUE")
    try:
        return path, YAML(typ="safe", pure=True).load(value)
    except YAMLError:
        raise argparse.ArgumentTypeError(f"the value of {path} is not YAML: {value!r}") from None


if __name__ == "__main__":
    sys.exit(main())
