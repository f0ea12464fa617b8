"""What a client meets on the wire: transports, one client at a time, and every scripted fault."""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labctl.twin.faults import KINDS, FaultBook, FaultError, as_bytes
from labctl.twin.host import DeviceSpec, make_host
from labctl.twin.session import Transcript
from labctl.twin.wires import peer_gone
from tests.twin.conftest import DEADLINE_S, Rig, eventually

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")


class Terminal:
    """A client of a pseudo-terminal."""

    def __init__(self, address: str) -> None:
        self.descriptor = os.open(address.removeprefix("serial://"), os.O_RDWR | os.O_NOCTTY)

    def write(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def read(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self.descriptor], [], [], DEADLINE_S)[0], f"no answer; so far {line!r}"
            line += os.read(self.descriptor, 1)
        return line.decode()

    def close(self) -> None:
        os.close(self.descriptor)


@pytest.fixture
def pty_rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig(transport="pty")


@pytest.fixture
def terminal(pty_rig: Rig) -> Iterator[Terminal]:
    end = Terminal(pty_rig.hosts["stage"].address)
    yield end
    end.close()


@pytest.mark.parametrize(
    ("transport", "pattern"),
    [
        ("tcp", r"tcp://127\.0\.0\.1:\d+"),
        ("visa", r"visa://TCPIP0::127\.0\.0\.1::\d+::SOCKET"),
        ("vendor", r"vendor://fake_vendor@127\.0\.0\.1:\d+"),
        pytest.param("pty", r"serial:///dev/.+", marks=needs_pty),
    ],
)
def test_addresses(make_rig: Callable[..., Rig], transport: str, pattern: str) -> None:
    assert re.fullmatch(pattern, make_rig(transport=transport).hosts["stage"].address)


def test_a_spec_that_cannot_be_served_is_refused(rig: Rig) -> None:
    port = rig.hosts["stage"].port
    with pytest.raises(ValueError, match=r"stage.*carrier pigeon.*tcp, pty, visa, vendor"):
        make_host(port, DeviceSpec("", "carrier pigeon"))
    with pytest.raises(ValueError, match=r"stage.*module"):
        make_host(port, DeviceSpec("", "vendor"))


def test_commands_may_come_in_pieces(rig: Rig) -> None:
    wire = rig.wire()
    for piece in ("PO", "S", "?", "\nPOS?\nST"):
        wire.write(piece)
    assert wire.read() + wire.read() == "12.5\n12.5\n"
    assert wire.ask("OP") == "STOPPED"


def test_banner_comes_first(make_rig: Callable[..., Rig]) -> None:
    wire = make_rig(banner="HELLO\n").wire()
    assert wire.read() == "HELLO\n"


def test_a_second_client_is_closed_at_once_and_may_come_when_the_first_is_gone(rig: Rig) -> None:
    first = rig.wire()
    assert first.ask("POS?") == "12.5"
    assert rig.wire().cut()
    assert first.ask("POS?") == "12.5"
    first.close()
    assert rig.wire().ask("POS?") == "12.5"


def test_clients_may_follow_each_other_without_a_pause_and_the_last_word_of_each_is_heard(rig: Rig) -> None:
    for number in range(50):
        wire = rig.wire()
        wire.write(f"SET {number}\n")
        wire.close()
    assert rig.wire().ask("POS?") == "12.5"
    heard = "".join(data.decode() for _, _, data in rig.hosts["stage"].port.transcript.entries())
    assert all(f"SET {number}\n" in heard for number in range(50))


def test_many_clients_where_the_instrument_allows_them(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(many=True)
    wires = [rig.wire() for _ in range(3)]
    assert [wire.ask("POS?") for wire in wires] == ["12.5"] * 3
    assert rig.stages["stage"].clients == 3


def test_closing_the_host_ends_its_clients(rig: Rig) -> None:
    wire = rig.wire()
    assert wire.ask("POS?") == "12.5"
    rig.hosts["stage"].close()
    assert wire.cut()
    with pytest.raises(OSError):
        rig.wire()


def test_a_crash_of_the_simulator_is_logged_and_cuts_the_line(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    wire = rig.wire()
    with caplog.at_level(logging.ERROR):
        wire.write("CRASH\n")
        assert wire.cut()
    assert "stage" in caplog.text and "a fault of the simulator" in caplog.text
    assert rig.wire().ask("POS?") == "12.5"


def test_transcript_and_byte_counters(rig: Rig) -> None:
    client, wire = rig.client(), rig.wire()
    client.lease("run 1")
    wire.ask("MOVE 1")
    wire.ask("POS?")
    assert client.transcript("stage") == [
        (0, ">", b"MOVE 1\n"),
        (10**12, "<", b"DONE 1\n"),
        (10**12, ">", b"POS?\n"),
        (10**12, "<", b"12.5\n"),
    ]
    assert client.transcript("stage", last=1) == [(10**12, "<", b"12.5\n")]
    assert client.bytes_flown("stage") == (12, 12)
    assert client.bytes_flown("other") == (0, 0)


def test_transcript_is_bounded() -> None:
    transcript = Transcript()
    for _ in range(5000):
        transcript.note(0, "<", b"x" * 5000)
    assert len(transcript.entries()) == 4096
    assert transcript.entries()[0] == (0, "<", b"x" * 4096)
    assert transcript.bytes_out() == 5000 * 5000


@needs_pty
def test_terminal_survives_its_clients(pty_rig: Rig) -> None:
    address = pty_rig.hosts["stage"].address
    for _ in range(3):
        end = Terminal(address)
        end.write("POS?\n")
        assert end.read() == "12.5\n"
        end.close()


@needs_pty
def test_half_a_command_of_a_dead_client_stays_in_the_line(pty_rig: Rig) -> None:
    """So whoever connects to a serial instrument begins with a terminator and drains the line."""
    address = pty_rig.hosts["stage"].address
    script = "import os, signal, sys; f = os.open(sys.argv[1], os.O_RDWR); os.write(f, b'MOV'); "
    script += "os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script, address.removeprefix("serial://")], check=False)
    end = Terminal(address)
    end.write("POS?\n")
    assert end.read() == "ERR MOVPOS?\n"
    end.write("POS?\n")
    assert end.read() == "12.5\n"
    end.close()


@needs_pty
def test_terminal_is_raw(pty_rig: Rig, terminal: Terminal) -> None:
    terminal.write("\x03\x11\x13\x1a\r\n")
    assert terminal.read() == "ERR \x03\x11\x13\x1a\r\n"


@needs_pty
def test_moves_over_a_terminal_cost_their_time(pty_rig: Rig, terminal: Terminal) -> None:
    pty_rig.client().lease("run 1")
    terminal.write("MOVE 1.5\n")
    assert terminal.read() == "DONE 1.5\n"
    assert pty_rig.world.now_ps == 1_500_000_000_000


@needs_pty
def test_after_a_disconnect_the_terminal_comes_back_elsewhere(pty_rig: Rig, terminal: Terminal) -> None:
    old = pty_rig.hosts["stage"].address
    pty_rig.client().fault("stage", "disconnect", match="POS")
    terminal.write("POS?\n")
    with pytest.raises(OSError):
        os.read(terminal.descriptor, 1)
        os.read(terminal.descriptor, 1)
    eventually(lambda: pty_rig.hosts["stage"].address != old)
    end = Terminal(pty_rig.hosts["stage"].address)
    end.write("POS?\n")
    assert end.read() == "12.5\n"
    end.close()


def test_drop(rig: Rig) -> None:
    rig.client().fault("stage", "drop", match=r"POS\?")
    wire = rig.wire()
    wire.write("POS?\n")
    assert wire.ask("STOP") == "STOPPED"
    assert wire.ask("POS?") == "12.5"


def test_a_dropped_late_answer_still_costs_its_time(rig: Rig) -> None:
    client, wire = rig.client(), rig.wire()
    client.fault("stage", "drop", match="MOVE")
    client.lease("run 1")
    wire.write("MOVE 3\n")
    eventually(lambda: rig.keeper.now_ps() == 3_000_000_000_000)
    assert wire.ask("POS?") == "12.5"


def test_delay(rig: Rig) -> None:
    rig.client().fault("stage", "delay", value=0.05)
    wire, start = rig.wire(), time.monotonic()
    assert wire.ask("POS?") == "12.5"
    assert time.monotonic() - start >= 0.05


def test_truncate(rig: Rig) -> None:
    rig.client().fault("stage", "truncate", value=2)
    wire = rig.wire()
    wire.write("POS?\n")
    assert wire.ask("STOP") == "12STOPPED"


@pytest.mark.parametrize(("value", "seen"), [("?!\n", "?!\n"), ("hex:00ff0a", "\x00\xff\n")])
def test_garbage(rig: Rig, value: str, seen: str) -> None:
    rig.client().fault("stage", "garbage", value=value)
    wire = rig.wire()
    wire.write("POS?\n")
    assert wire.read() == seen


def test_split(rig: Rig) -> None:
    rig.client().fault("stage", "split", value=2)
    wire = rig.wire()
    assert wire.ask("POS?") == "12.5"
    pieces = [data for _, way, data in rig.hosts["stage"].port.transcript.entries() if way == "<"]
    assert pieces == [b"12", b".5", b"\n"]


def test_duplicate(rig: Rig) -> None:
    rig.client().fault("stage", "duplicate")
    wire = rig.wire()
    wire.write("POS?\n")
    assert wire.read() + wire.read() == "12.5\n12.5\n"
    assert wire.ask("STOP") == "STOPPED"


def test_disconnect(rig: Rig) -> None:
    rig.client().fault("stage", "disconnect", match="POS")
    wire = rig.wire()
    assert wire.ask("STOP") == "STOPPED"
    wire.write("POS?\n")
    assert wire.cut()
    assert rig.wire().ask("POS?") == "12.5"


def test_unsolicited(rig: Rig) -> None:
    client, wire = rig.client(), rig.wire()
    client.fault("stage", "unsolicited", match="POS", value="ALARM\n")
    wire.write("POS?\n")
    assert wire.read() + wire.read() == "ALARM\n12.5\n"
    client.fault("stage", "unsolicited", value="ALARM 2\n")
    assert wire.read() == "ALARM 2\n"


def test_busy_keeps_the_command_from_the_device(rig: Rig) -> None:
    rig.client().fault("stage", "busy", match="MOVE", value="BUSY\n", count=2)
    wire = rig.wire()
    assert [wire.ask("MOVE 1"), wire.ask("POS?"), wire.ask("MOVE 1")] == ["BUSY", "12.5", "BUSY"]
    assert rig.stages["stage"].line == b""
    rig.client().lease("run 1")
    assert wire.ask("MOVE 1") == "DONE 1"


def test_faults_of_the_device_itself(rig: Rig) -> None:
    client, wire = rig.client(), rig.wire()
    client.fault("stage", "device", value="interlock")
    assert rig.stages["stage"].tripped == [("interlock", None)]
    client.fault("stage", "device", match="MOVE", value={"fault": "stall", "value": 3})
    assert wire.ask("POS?") == "12.5"
    assert rig.stages["stage"].tripped == [("interlock", None)]
    wire.write("MOVE 1\n")
    assert wire.ask("POS?") == "12.5"
    assert rig.stages["stage"].tripped == [("interlock", None), ("stall", 3)]


def test_prompt_disconnect(rig: Rig) -> None:
    wire = rig.wire()
    assert wire.ask("POS?") == "12.5"
    rig.client().fault("stage", "disconnect")
    assert wire.cut()


def test_a_fault_strikes_its_device_only_and_as_often_as_told(rig: Rig) -> None:
    client = rig.client()
    client.fault("stage", "garbage", match="POS", count=2, value="#\n")
    stage, other = rig.wire("stage"), rig.wire("other")
    assert other.ask("POS?") == "12.5"
    assert [stage.ask("STOP")] + [stage.ask("POS?") for _ in range(3)] == ["STOPPED", "#", "#", "12.5"]
    client.fault("stage", "drop", count=100)
    client.clear_faults()
    assert stage.ask("POS?") == "12.5"


def test_a_fault_on_a_command_in_pieces_spoils_its_answer(rig: Rig) -> None:
    rig.client().fault("stage", "garbage", match="PO", value="#\n")
    wire = rig.wire()
    wire.write("PO")
    eventually(lambda: rig.stages["stage"].line == b"PO")
    assert wire.ask("S?") == "#"
    assert wire.ask("POS?") == "12.5"


@pytest.mark.parametrize(
    ("kind", "arguments", "complaint"),
    [
        ("melt", {}, "there is no fault 'melt'"),
        ("drop", {"match": "("}, "not a regular expression"),
        ("drop", {"count": 0}, "at least once"),
        ("delay", {"value": None}, "number of s"),
        ("delay", {"value": float("inf")}, "number of s"),
        ("truncate", {"value": 1.5}, "number of bytes"),
        ("split", {"value": 0}, "at least 1"),
        ("garbage", {"value": 3}, "text"),
        ("busy", {"value": "hex:0"}, "hexadecimal"),
        ("device", {"value": 3}, "needs its name"),
    ],
)
def test_a_fault_described_wrongly_is_refused(kind: str, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FaultError, match=complaint):
        FaultBook().arm("stage", kind, **arguments)
    assert len(set(KINDS)) == 10


def test_bytes_of_a_fault_round_trip() -> None:
    assert as_bytes("hex:" + bytes(range(256)).hex()) == bytes(range(256))
    assert as_bytes("\xff\x00") == b"\xff\x00"


@pytest.mark.parametrize("can_tell", [True, False])
def test_whether_a_client_is_gone(monkeypatch: pytest.MonkeyPatch, can_tell: bool) -> None:
    if not can_tell:
        monkeypatch.delattr(select, "POLLRDHUP", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        assert not peer_gone(server)
        client.sendall(b"x")
        assert server.recv(1, socket.MSG_PEEK) == b"x"
        assert not peer_gone(server)
        server.recv(1)
        client.close()
        eventually(lambda: peer_gone(server))
        server.close()
        assert peer_gone(server)
