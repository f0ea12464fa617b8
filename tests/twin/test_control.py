"""The control port: every operation, and plain words for everything that is no operation."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import numpy as np
import pytest

import labctl
from labctl.bench.twin_client import TwinClient, TwinError
from labctl.twin import control
from tests.twin.conftest import DEADLINE_S, Rig, eventually


class RawControl:
    """A client that may send whatever it likes."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self.lines = self.socket.makefile("rb")

    def ask(self, line: bytes) -> dict[str, object]:
        self.socket.sendall(line + b"\n")
        return dict(json.loads(self.lines.readline()))


@pytest.fixture
def raw(rig: Rig) -> Iterator[RawControl]:
    end = RawControl(rig.control.address)
    yield end
    end.lines.close()
    end.socket.close()


def test_hello(rig: Rig) -> None:
    hello = rig.client().hello()
    assert (hello["name"], hello["seed"], hello["twin_id"]) == ("fake", 7, "a1b2")
    assert (hello["time_ps"], hello["version"], hello["owner"]) == (0, labctl.__version__, None)
    assert hello["devices"]["stage"]["address"] == rig.hosts["stage"].address


def test_hello_shows_bytes_flowing(rig: Rig) -> None:
    rig.wire().ask("POS?")
    devices = rig.client().hello()["devices"]
    assert (devices["stage"]["bytes_in"], devices["stage"]["bytes_out"]) == (5, 5)
    assert devices["other"]["bytes_in"] == 0


def test_truth_and_knobs(rig: Rig) -> None:
    client = rig.client()
    client.set_knob("mir_blocked", True)
    truth = client.truth()
    assert truth["parameters"] == {"answer": 42}
    assert truth["state"] == {"mir_blocked": True}
    assert truth["devices"]["stage"] == {"clients": 0, "tripped": []}
    with pytest.raises(TwinError, match=r"op set: no knob 'flux_capacitor'"):
        client.set_knob("flux_capacitor", 1)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"hello", "not a line of JSON"),
        (b"\xff\xfe", "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON"),
        (b'["hello"]', "a request is a JSON object"),
        (b'{"op": "explode"}', "unknown op 'explode'; known are hello, lease"),
        (b'{"op": ["hello"]}', "unknown op"),
        (b"{}", "unknown op None"),
        (b'{"op": "advance"}', "op advance: advance() missing"),
        (b'{"op": "advance", "ps": 1.5}', "op advance: ps must be a whole number"),
        (b'{"op": "advance", "ps": 1}', "not owned by anybody; take the lease first"),
        (b'{"op": "hello", "colour": "red"}', "unexpected keyword argument 'colour'"),
        (b'{"op": "transcript", "device": "laser"}', "no device 'laser'; this twin has stage, other"),
        (b'{"op": "wait", "until_ps": 1, "timeout_s": "long"}', "op wait: could not convert"),
        (b'{"op": "fault", "device": "stage", "kind": "melt"}', "op fault: there is no fault 'melt'"),
    ],
)
def test_a_bad_request_gets_one_clear_line_and_the_connection_lives(
    rig: Rig, raw: RawControl, line: bytes, complaint: str
) -> None:
    reply = raw.ask(line)
    assert reply["ok"] is False
    assert complaint in str(reply["error"])
    assert "\n" not in str(reply["error"])
    assert raw.ask(b'{"op": "time"}') == {"ok": True, "time_ps": 0}


def test_an_endless_request_is_cut_off(raw: RawControl) -> None:
    reply = raw.ask(b" " * (control.MAX_LINE_BYTES + 1 - len(b"\n")))
    assert "at most 1048576 bytes" in str(reply["error"])
    assert raw.lines.readline() == b""


def test_a_request_may_carry_a_number(raw: RawControl) -> None:
    assert raw.ask(b'{"op": "time", "id": 12}') == {"id": 12, "ok": True, "time_ps": 0}
    assert raw.ask(b'{"op": "what", "id": "x"}')["id"] == "x"


def test_an_answer_that_was_given_up_is_not_taken_for_the_next(rig: Rig) -> None:
    waiting = rig.client()
    with pytest.raises(TwinError, match="no answer to 'wait' within"):
        waiting._time_line.ask("wait", 0.01, until_ps=1, timeout_s=0.05)
    waiting.lease("run 1")
    assert waiting.advance(1e-12) == 1


def test_a_device_that_fails_is_reported(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, object]:
        raise KeyError("missing")

    monkeypatch.setattr(rig.stages["stage"], "state", fail)
    with pytest.raises(TwinError, match="op truth: 'missing'"):
        rig.client().truth()


def test_values_of_the_world_become_json(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"flux": np.float64(1.5), "tags": np.arange(3), "line": b"\xff", "set": {1}, "none": None}
    monkeypatch.setattr(rig.world, "truth", lambda: {"state": state})
    truth = rig.client().truth()["state"]
    assert truth == {"flux": 1.5, "tags": [0, 1, 2], "line": "\xff", "set": [1], "none": None}


def test_shutdown_is_answered_and_passed_on(rig: Rig) -> None:
    rig.client().shutdown()
    eventually(lambda: rig.stopped == [True])


def test_presence_knows_whether_anybody_is_there(rig: Rig) -> None:
    assert rig.presence.absent_s() > 0
    wire, client = rig.wire(), rig.client()
    client.hello()
    assert wire.ask("POS?") == "12.5"
    client.close()
    assert rig.presence.absent_s() == 0
    wire.close()
    eventually(lambda: rig.presence.absent_s() > 0)


def test_no_twin_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TwinError, match="no twin answers"):
        TwinClient(f"127.0.0.1:{port}")


def test_a_twin_that_goes_away_is_reported(rig: Rig) -> None:
    client = rig.client()
    client.hello()
    rig.control.close()
    with pytest.raises(TwinError, match="the connection broke at 'hello'"):
        client.hello()
