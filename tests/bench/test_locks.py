"""One owner per instrument: refused by name, freed by the kernel, held until both holders let go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.bench.locks import BenchBusy, Locks, Owner, canonical, runtime_folder
from tests.bench.conftest import environment

ADDRESS = {"tagger": "swabian:1234"}

HOLD = """
import sys
from labctl.bench.locks import Locks
locks = Locks.acquire({"tagger": "swabian:1234"})
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the tagger."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "run", "hbt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("tcp://Bench-PC:5025", "tcp://bench-pc:5025"),
        ("tcp://localhost:5025", "tcp://127.0.0.1:5025"),
        ("visa://TCPIP0::127.0.0.1::5025::SOCKET", "tcp://localhost:5025"),
        ("visa://usb0::0x1313::0x8078::p1::instr", "visa://USB0::0x1313::0x8078::P1::INSTR"),
        ("serial://com5", "serial://COM5"),
        ("serial://socket://localhost:7", "tcp://127.0.0.1:7"),
        ("vendor://some.module@127.0.0.1:9", "tcp://127.0.0.1:9"),
        ("swabian: ", "swabian:"),
    ],
)
def test_spellings_of_one_address(address: str, same: str) -> None:
    assert canonical(address) == canonical(same)


def test_different_addresses_stay_different() -> None:
    addresses = ["tcp://a:1", "tcp://a:2", "serial:///dev/ttyUSB0", "serial://COM1", "swabian:", "swabian:1"]
    assert len({canonical(address) for address in addresses}) == len(addresses)


def test_a_link_to_a_serial_port_is_the_port(tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "port")
    assert canonical(f"serial://{tmp_path}/by-id") == canonical(f"serial://{tmp_path}/port")


def test_a_second_owner_is_refused_by_name() -> None:
    with holder() as process, pytest.raises(BenchBusy) as refused:
        Locks.acquire({"laser": "tcp://a:1"} | ADDRESS, patience_s=0)
    assert "tagger (swabian:1234) is held by `python run hbt`" in str(refused.value)
    assert f"pid {process.pid}, since " in str(refused.value)
    Locks.acquire({"laser": "tcp://a:1"}, patience_s=0).release()  # what it had taken before, it gave back


def test_a_killed_owner_is_no_owner() -> None:
    with holder() as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        Locks.acquire(ADDRESS, patience_s=0).release()


def test_within_one_process_too() -> None:
    first = Locks.acquire(ADDRESS, Owner("labctl run hbt", 1, "2026-01-01T10:14:00+00:00", "elsewhere"))
    with pytest.raises(BenchBusy, match="`labctl run hbt`, pid 1 on elsewhere, since 10:14; end it or wait"):
        Locks.acquire(ADDRESS, patience_s=0)
    first.release()
    Locks.acquire(ADDRESS, patience_s=0).release()


def test_one_address_twice_is_locked_once() -> None:
    locks = Locks.acquire({"x": "serial:///dev/null", "y": "serial:///dev/null"})
    assert len(locks.descriptors) == 1
    locks.release()


def test_held_until_both_let_go() -> None:
    first = Locks.acquire(ADDRESS)
    second = Locks.adopt(first.paths, [os.dup(descriptor) for descriptor in first.descriptors])
    first.leave()
    second.sign(Owner("guardian of it", 7, "2026-01-01T10:14:00+00:00", "h"))
    with pytest.raises(BenchBusy, match="guardian of it"):
        Locks.acquire(ADDRESS, patience_s=0)
    second.release()
    Locks.acquire(ADDRESS, patience_s=0).release()


def test_the_files_go_with_their_owner() -> None:
    locks = Locks.acquire(ADDRESS)
    (file,) = runtime_folder().glob("*.lock")
    assert json.loads(file.read_text())["pid"] == os.getpid()
    locks.release()
    assert not list(runtime_folder().glob("*.lock"))
