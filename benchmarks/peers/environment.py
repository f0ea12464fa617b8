"""Environments for peers that are no dependency of labctl, made at first use from `NAME.txt`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1] / ".venv-peers"


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment, which has what `peers/PEER.txt` asks for.

    Raises CalledProcessError when pip cannot install it.
    """
    folder = ROOT / peer
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = (HERE / f"{peer}.txt").read_text(encoding="utf-8")
    installed = folder / "installed.txt"
    if installed.exists() and installed.read_text(encoding="utf-8") == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / f"{peer}.txt")], check=True)
    installed.write_text(wanted, encoding="utf-8")
    return python
