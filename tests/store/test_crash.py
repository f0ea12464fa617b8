"""Processes that die or run out of disk while they write."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labctl.store import finish_journal, open_run, read_journal
from labctl.store.records import Kind

from .helpers import assert_same_blocks, make_block, read_all_blocks

# Records: 0 header, 1 beginning of the acquisition, then row k and block k in turn.
WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from tests.store.helpers import make_block
from labctl.store import RunWriter
writer = RunWriter.create(Path(sys.argv[1]), "crash", {})
print(writer.directory, flush=True)
acquisition = writer.begin_acquisition({1: "A"}, "s", 0, 0.0)
k = 0
while True:
    writer.row("s", k, 0, {"x": k * 0.5}, {"x": "m"}, float(k))
    writer.tags(acquisition, make_block(k, 1000 + 977 * (k % 60), k * 10**13))
    k += 1
    if k % 10 == 0:
        print(writer.acknowledged, flush=True)
"""

FULL = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from tests.store.helpers import make_block
from labctl.store import RunWriter, StoreError
writer = RunWriter.create(Path(sys.argv[1]), "full", {})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
acquisition = writer.begin_acquisition({1: "A"}, "s", 0, 0.0)
given = 0
try:
    while given < 1000:
        writer.tags(acquisition, make_block(given, 1000, given * 10**13))
        given += 1
    writer.flush()
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(given)
print(writer.finish("abort"))
"""


def start(script: str, root: Path) -> subprocess.Popen[str]:
    checkout = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", script, str(root), checkout]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("wanted", [30, 400])
def test_sigkill_loses_nothing_acknowledged(tmp_path: Path, wanted: int) -> None:
    with start(WRITER, tmp_path) as child:
        assert child.stdout is not None
        directory = Path(child.stdout.readline().strip())
        acknowledged = 0
        while acknowledged < wanted:
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        reports = [line for line in child.stdout if line.endswith("\n")]
    acknowledged = max([acknowledged, *map(int, reports)])
    kinds = [record.kind for record in read_journal(directory / "run.journal")]
    assert len(kinds) >= acknowledged
    assert open_run(directory).status == "crashed"
    run = open_run(finish_journal(directory))
    assert run.status == "recovered"
    rows, blocks = kinds.count(Kind.ROW), kinds.count(Kind.TAGS)
    np.testing.assert_array_equal(run.rows("s")["x"], np.arange(rows) * 0.5)
    wanted_blocks = [make_block(k, 1000 + 977 * (k % 60), k * 10**13) for k in range(blocks)]
    assert_same_blocks(read_all_blocks(run), wanted_blocks)


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    with start(FULL, tmp_path) as child:
        assert child.stdout is not None
        message, given, path = child.stdout.read().splitlines()
    assert child.returncode == 0
    assert "run.journal: cannot be written" in message and "make room" in message
    run = open_run(Path(path))
    assert_same_blocks(read_all_blocks(run), [make_block(k, 1000, k * 10**13) for k in range(int(given))])
