"""`labctl check` and `labctl twin`: benches, real and simulated."""

from __future__ import annotations

import sys

from labctl.cli.output import print_json, print_table, print_text


def check_instruments(bench: str, *, as_json: bool) -> None:
    """Report every instrument of a bench; exit code 2 if one does not answer as it should."""
    from labctl.bench.bench import check_bench

    lines = check_bench(bench)
    if as_json:
        print_json({"bench": bench, "instruments": [vars(line) for line in lines]})
    else:
        rows = [[line.instrument, "ok" if line.ok else "FAILED", line.identity, line.state] for line in lines]
        print_table(f"bench {bench}", ["instrument", "", "identity", "state"], rows)
    failed = [line.instrument for line in lines if not line.ok]
    if failed:
        sys.stderr.write(f"labctl: {len(failed)} of {len(lines)} instruments failed: {', '.join(failed)}\n")
        sys.exit(2)


def serve_twin(name: str, *, seed: int, speed: float | None, as_json: bool) -> None:
    """Start a twin, print where its instruments are, and keep it until Ctrl-C."""
    from labctl.bench.twin_client import start_twin
    from labctl.loading import find_config

    with start_twin(find_config("twins", name), seed=seed, speed=speed) as process:
        if as_json:
            print_json({"twin": name, "control": process.control, "devices": process.devices})
        else:
            rows = [[device, address] for device, address in process.devices.items()]
            print_table(f"twin {name}, control port {process.control}", ["instrument", "address"], rows)
            print_text("Ctrl-C ends it.")
        sys.stdout.flush()
        try:
            process.wait()
        except KeyboardInterrupt:
            print_text("twin ended")
