"""`labctl check` and `labctl twin`: benches, real and simulated."""

from __future__ import annotations

import sys
from contextlib import suppress

from labctl.bench.bench import CheckLine, check_bench
from labctl.cli.output import print_json, print_table, print_text


def check_instruments(bench: str, *, as_json: bool) -> None:
    """Report every instrument of a bench; exit code 2 if one does not answer as it should."""
    lines = check_bench(bench)
    if as_json:
        print_json({"bench": bench, "instruments": [vars(line) for line in lines]})
    else:
        print_table(f"bench {bench}", ["instrument", "", "identity", "state"], list(map(_row, lines)))
    failed = [line.instrument for line in lines if not line.ok]
    if failed:
        sys.stderr.write(f"labctl: {len(failed)} of {len(lines)} instruments failed: {', '.join(failed)}\n")
        sys.exit(2)


def _row(line: CheckLine) -> list[str]:
    """Without what people need not read: the firmware, which JSON tells, and the name a second time."""
    identity = line.identity.partition(", firmware ")[0].removeprefix("labctl ")
    state = line.state.removeprefix(f"{line.instrument}: ")
    return [line.instrument, "ok" if line.ok else "FAILED", identity, state]


def serve_twin(name: str, *, seed: int, speed: float | None, as_json: bool) -> None:
    """Start a twin, print where its instruments are, and keep it until Ctrl-C."""
    from labctl.bench.twin_client import TwinError, start_twin
    from labctl.loading import find_config

    file = find_config("twins", name)
    with start_twin(file, seed=seed, speed=speed) as process, suppress(KeyboardInterrupt):
        devices = {device: entry["address"] for device, entry in process.client.hello()["devices"].items()}
        if as_json:
            print_json({"twin": name, "control": process.control_address, "devices": devices})
        else:
            rows = [[device, address] for device, address in devices.items()]
            print_table(
                f"twin {name}, control port {process.control_address}", ["instrument", "address"], rows
            )
            print_text("Ctrl-C ends it.")
        sys.stdout.flush()
        while process.running():
            with suppress(TwinError):
                process.wait(3600.0)
