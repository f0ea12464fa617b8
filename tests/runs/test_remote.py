"""Commands from another process: what arrives, what is refused, what happens when nobody is there."""

import json
import os
import queue
import socket
import stat
import sys
import threading
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.runs.remote import (
    CONTROL_FILE,
    MAX_TEXT,
    BadRequest,
    Command,
    CommandPort,
    RemoteError,
    Reply,
    ask_status,
    decode_request,
    live_runs,
    send_command,
)
from labctl.store.folder import make_folder

TOKEN = "0123456789abcdef"
KINDS = ["pause", "pause_now", "continue", "stop", "abort", "note", "keep_light"]


def request(**changes):
    return json.dumps({"token": TOKEN, "kind": "pause", "reason": ""} | changes).encode()


@pytest.fixture
def commands():
    return queue.SimpleQueue()


@pytest.fixture
def port(tmp_path, commands):
    with CommandPort(tmp_path, commands, lambda: "running", lambda: {"point": "3/20"}) as port:
        yield port


def exchange(folder, line):
    """What the port answers to a raw line."""
    address = json.loads((folder / CONTROL_FILE).read_text())
    with socket.create_connection(("127.0.0.1", address["port"]), 10) as connection:
        connection.settimeout(10)
        connection.sendall(line)
        with suppress(OSError):  # the port may have hung up already
            connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_arrives_and_the_state_comes_back(port, commands, tmp_path, kind):
    reply = send_command(tmp_path, kind, "because of µ")
    assert reply == Reply("running", {"point": "3/20"})
    assert commands.get_nowait() == Command(kind, "because of µ")
    assert commands.empty()


def test_asking_how_it_is_commands_nothing(port, commands, tmp_path):
    assert ask_status(tmp_path) == Reply("running", {"point": "3/20"})
    assert commands.empty()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_user_may_read_the_token(port, tmp_path):
    assert stat.S_IMODE(os.stat(tmp_path / CONTROL_FILE).st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [CONTROL_FILE]


def test_it_listens_on_this_computer_only(port):
    assert port._server.server_address[0] == "127.0.0.1"


def test_the_file_of_a_killed_run_is_replaced_and_removed_at_the_end(tmp_path, commands):
    (tmp_path / CONTROL_FILE).write_text('{"port": 1, "token": "old"}')
    port = CommandPort(tmp_path, commands, lambda: "running")
    assert ask_status(tmp_path).state == "running"
    port.close()
    port.close()
    assert list(tmp_path.iterdir()) == []
    assert not any(thread.name == "command port" for thread in threading.enumerate())


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(tmp_path, commands):
    with pytest.raises(FileNotFoundError):
        CommandPort(tmp_path / "none", commands, lambda: "running")
    assert not any(thread.name == "command port" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not a line of JSON"),
        (b"\xff\xfe", "not a line of JSON"),
        (b"[" * 20_000, "not a line of JSON"),
        (b"[]", "token, kind and reason"),
        (b"{}", "token, kind and reason"),
        (request(more=1), "token, kind and reason"),
        (request(token="0" * 16), "wrong token"),
        (request(token=None), "wrong token"),
        (request(token="\ud800"), "wrong token"),
        (request(kind="explode"), "no command 'explode'"),
        (request(kind=["pause"]), "no command"),
        (request(reason=5), "no control characters"),
        (request(reason="\x00"), "no control characters"),
        (request(reason="\ud800"), "no control characters"),
        (request(reason="x" * (MAX_TEXT + 1)), "at most 4000"),
        (request(kind="note", reason=" \n"), "needs a text"),
    ],
)
def test_what_is_no_command_is_refused(line, said):
    with pytest.raises(BadRequest, match=said):
        decode_request(line, TOKEN)


def test_texts_in_any_script_are_taken():
    text = "Probe bei 4 K,\tsehr hell\n\u00a0光 👩‍🔬"
    assert decode_request(request(kind="note", reason=text), TOKEN) == Command("note", text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
requests = st.fixed_dictionaries(
    {
        "token": st.just(TOKEN) | json_values,
        "kind": st.sampled_from([*KINDS, "status"]) | json_values,
        "reason": json_values,
    }
)
lines = st.binary() | json_values.map(lambda v: json.dumps(v).encode()) | requests.map(
    lambda v: json.dumps(v).encode()
)  # fmt: skip


@given(lines)
def test_any_line_is_a_command_or_refused(line):
    try:
        command = decode_request(line, TOKEN)
    except BadRequest:
        return
    assert json.loads(line)["token"] == TOKEN
    if command is not None:
        assert command.kind in KINDS
        assert "\x00" not in command.reason and command.reason.encode("utf-8")[:1] != b"\x00"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_the_port_survives_any_bytes(port, commands, tmp_path, line):
    exchange(tmp_path, line)
    assert commands.empty()
    assert ask_status(tmp_path).state == "running"


def test_a_wrong_token_has_no_effect(port, commands, tmp_path):
    assert b"wrong token" in exchange(tmp_path, request() + b"\n")
    assert commands.empty()


def test_a_line_that_is_too_long_gets_no_answer(port, commands, tmp_path):
    try:
        assert exchange(tmp_path, b"x" * 40_000 + b"\n") == b""
    except ConnectionError:
        pass  # it hung up with our bytes unread
    assert ask_status(tmp_path).state == "running"


def test_a_silent_client_does_not_keep_others_waiting(port, tmp_path):
    address = json.loads((tmp_path / CONTROL_FILE).read_text())
    with socket.create_connection(("127.0.0.1", address["port"]), 10):
        assert ask_status(tmp_path).state == "running"


def test_a_refused_command_says_why(port, tmp_path):
    with pytest.raises(RemoteError, match="refused the command: a note needs a text"):
        send_command(tmp_path, "note", "")


def test_no_run_in_the_folder(tmp_path):
    with pytest.raises(RemoteError, match="no run lives here"):
        send_command(tmp_path, "stop")


@pytest.mark.parametrize("content", ["", "[]", '{"port": "x", "token": "t"}', '{"port": 1}'])
def test_a_broken_control_file(tmp_path, content):
    (tmp_path / CONTROL_FILE).write_text(content)
    with pytest.raises(RemoteError, match="cannot be read"):
        send_command(tmp_path, "stop")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_process_of_the_run_is_dead(tmp_path):
    (tmp_path / CONTROL_FILE).write_text(json.dumps({"port": _free_port(), "token": TOKEN}))
    with pytest.raises(RemoteError, match="not alive any more"):
        send_command(tmp_path, "stop")


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", b"x" * 100])
def test_a_stranger_at_the_port(tmp_path, answer):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        (tmp_path / CONTROL_FILE).write_text(json.dumps({"port": stranger.getsockname()[1], "token": TOKEN}))

        def serve():
            connection, _ = stranger.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(RemoteError, match="no answer from the run"):
            send_command(tmp_path, "stop")
        thread.join(10)


def test_a_run_that_does_not_answer_in_time(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (tmp_path / CONTROL_FILE).write_text(json.dumps({"port": mute.getsockname()[1], "token": TOKEN}))
        with pytest.raises(RemoteError, match="timed out"):
            send_command(tmp_path, "stop", limit_s=0.05)


def test_live_runs_are_those_that_answer_newest_first(tmp_path, commands):
    old, new, dead, _ = (make_folder(tmp_path, "scan", datetime(2026, 1, day, 12)) for day in (1, 2, 3, 4))
    (dead / CONTROL_FILE).write_text(json.dumps({"port": _free_port(), "token": TOKEN}))
    with CommandPort(old, commands, lambda: "paused"), CommandPort(new, commands, lambda: "running"):
        found = live_runs(tmp_path)
        assert list(found) == [new, old]
        assert [reply.state for reply in found.values()] == ["running", "paused"]
    assert live_runs(tmp_path) == {}
