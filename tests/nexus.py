"""What tools of the NeXus community see in a file; each runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CHECK = "import sys; from nexusformat.scripts.nxcheck import main; sys.exit(main())"
_PLOT = """
import sys
from nexusformat.nexus import nxload
plot = nxload(sys.argv[1]).plottable_data
signal = plot.nxsignal
print(signal.nxname, plot.nxaxes[0].nxname, signal.units, plot.nxerrors.nxname, signal.long_name)
"""


def nxcheck(path: Path) -> str:
    """The report of nxcheck."""
    return run_python(_CHECK, path)


def default_plot(path: Path) -> str:
    """Signal, axis, unit, errors and long name of the data that a viewer shows first."""
    return run_python(_PLOT, path).strip()


def run_python(script: str, path: Path) -> str:
    """What a script prints that gets the path as its argument."""
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
