"""The bench's end of the control port: start a twin, own its time, and tell the time by it.

A client has two connections: on one it takes the lease and waits for time to pass, on the other it looks, so
that the time and the truth can be read by other threads while the world is on its way.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from labctl.errors import LabctlError

PS_PER_S = 1_000_000_000_000
START_S = 60.0
"""Wall time that a twin may take to come up; the first time its kernels are compiled."""
LOOK_S = 30.0
ADVANCE_S = 600.0
WAIT_SLICE_S = 5.0
LOOK_UP_S = 0.2
"""Wall time between two signs of life of who waits for the world, which may compute for long."""
LOG_S = 5.0
"""Wall time to read what a dead twin left in its pipe."""

Transcript = list[tuple[int, str, bytes]]


class TwinError(LabctlError, RuntimeError):
    """The twin refused a request, did not answer, or did not start."""


class _Line:
    """One connection; one request at a time. Answers carry the number of their request, so that the answer
    to a request that was given up is never taken for the answer to the next one."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._number = 0
        self.while_waiting: Callable[[], None] = lambda: None
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=LOOK_S)
        except (OSError, ValueError) as error:
            raise TwinError(f"no twin answers at {address} ({error}); is it still running?") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, op: str, wall_s: float, /, **fields: Any) -> dict[str, Any]:
        with self._lock:
            self._number += 1
            request = {"op": op, "id": self._number, **fields}
            try:
                reply = self._exchange(request, time.monotonic() + wall_s)
            except TimeoutError:
                raise TwinError(
                    f"twin {self._address}: no answer to {op!r} within {wall_s:g} s of wall time; "
                    f"see the log of the twin"
                ) from None
            except OSError as error:
                raise TwinError(f"twin {self._address}: the connection broke at {op!r}: {error}") from error
        if not reply.get("ok"):
            raise TwinError(f"twin {self._address} refused {op!r}: {reply.get('error', reply)}")
        return reply

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exchange(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = json.loads(self._read_line(deadline))
            if reply.get("id", request["id"]) == request["id"]:
                return dict(reply)

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(min(left_s, LOOK_UP_S))
            try:
                chunk = self._socket.recv(1 << 16)
            except TimeoutError:
                self.while_waiting()
                continue
            if not chunk:
                raise ConnectionError("the twin closed it")
            self._buffer += chunk
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line


class TwinClient:
    """A client of a twin's control port ("127.0.0.1:PORT"); may be used by several threads.

    Everything raises TwinError: when the twin refuses, with its reason, or does not answer in time.
    """

    def __init__(self, control_address: str) -> None:
        self._time_line = _Line(control_address)
        try:
            self._look_line = _Line(control_address)
        except TwinError:
            self._time_line.close()
            raise
        self._owns_time = False

    def call_while_waiting(self, sign_of_life: Callable[[], None]) -> None:
        """Have this called every 0.2 s of wall time by whoever waits here for time to pass."""
        self._time_line.while_waiting = sign_of_life

    @property
    def owns_time(self) -> bool:
        """Whether this client took the lease."""
        return self._owns_time

    def hello(self) -> dict[str, Any]:
        """Who the twin is: twin_id, name, seed, time_ps, pid, version, owner, devices {name: {address}}."""
        return self._look("hello")

    def lease(self, client: str) -> None:
        """Become the owner of the twin's time under this name, until `release` or `close`."""
        self._time_line.ask("lease", LOOK_S, client=client)
        self._owns_time = True

    def release(self) -> None:
        """Give the time back."""
        self._owns_time = False
        self._time_line.ask("release", LOOK_S)

    def advance(self, seconds: float, timeout_s: float | None = None) -> int:
        """Move the world by `seconds`, rounded to ps, and return its time in ps; for the owner.

        It may take `timeout_s` of wall time, by default 600 s and ten times as long as the world time.
        """
        ps = round(seconds * PS_PER_S)
        wall_s = ADVANCE_S + 10 * seconds if timeout_s is None else timeout_s
        return int(self._time_line.ask("advance", wall_s, ps=ps)["time_ps"])

    def wait_until(self, t_ps: int, timeout_s: float) -> bool:
        """Wait (wall time) until others brought the world to `t_ps`; False if they did not."""
        reply = self._time_line.ask("wait", timeout_s + LOOK_S, until_ps=t_ps, timeout_s=timeout_s)
        return bool(reply["reached"])

    def time_ps(self) -> int:
        """World time in ps."""
        return int(self._look("time")["time_ps"])

    def truth(self) -> dict[str, Any]:
        """The hidden truth: "parameters", "state", "devices" and "time_ps"."""
        return self._look("truth")

    def set_knob(self, knob: str, value: Any) -> None:
        """Override a knob of the world, e.g. "mir_blocked", True."""
        self._look("set", knob=knob, value=value)

    def fault(
        self, device: str, kind: str, match: str | None = None, count: int = 1, value: Any = None
    ) -> None:
        """Let a fault strike the next `count` commands to `device` that match (regular expression).

        Without a pattern, disconnect, unsolicited and device strike at once, others at the next command.
        """
        self._look("fault", device=device, kind=kind, match=match, count=count, value=value)

    def clear_faults(self) -> None:
        """Disarm all faults."""
        self._look("faults_clear")

    def transcript(self, device: str, last: int = 1000) -> Transcript:
        """The last writes on a device's wire: (time_ps, ">" to the device or "<" from it, bytes)."""
        entries = self._look("transcript", device=device, last=last)["entries"]
        return [(int(time_ps), str(way), text.encode("latin-1")) for time_ps, way, text in entries]

    def bytes_flown(self, device: str) -> tuple[int, int]:
        """Bytes that ever went (to, from) a device."""
        reply = self._look("transcript", device=device, last=0)
        return int(reply["bytes_in"]), int(reply["bytes_out"])

    def shutdown(self) -> None:
        """End the twin."""
        self._look("shutdown")

    def close(self) -> None:
        """Leave; a lease ends with it."""
        self._owns_time = False
        self._time_line.close()
        self._look_line.close()

    def __enter__(self) -> TwinClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self, op: str, **fields: Any) -> dict[str, Any]:
        reply = self._look_line.ask(op, LOOK_S, **fields)
        return {key: value for key, value in reply.items() if key not in ("ok", "id")}


class TwinClock:
    """Bench time of a twin (a `labctl.clock.Clock`).

    For the owner a sleep moves the world; any other client sleeps until the world gets there.
    """

    def __init__(self, client: TwinClient) -> None:
        self._client = client

    def now(self) -> float:
        """World time in s: the float nearest to the twin's integer ps."""
        return self._client.time_ps() / PS_PER_S

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of world time pass, rounded to ps; not positive: returns at once."""
        if seconds <= 0:
            return
        if self._client.owns_time:
            self._client.advance(seconds)
            return
        until_ps = self._client.time_ps() + round(seconds * PS_PER_S)
        while not self._client.wait_until(until_ps, WAIT_SLICE_S):
            pass


class TwinProcess:
    """A twin that this process started, with a client connected to it. Use as a context manager."""

    def __init__(self, child: subprocess.Popen[str], ready: Mapping[str, Any], log: _Log) -> None:
        self._child = child
        self._log = log
        self.pid = int(ready["pid"])
        self.twin_id = str(ready["twin_id"])
        self.control_address = str(ready["control"])
        self.client = TwinClient(self.control_address)

    def running(self) -> bool:
        """Whether the process lives."""
        return self._child.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Exit status of the process, once it ended by itself. Raises TwinError after `timeout_s` wall s."""
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TwinError(f"the twin {self.twin_id} is still running after {timeout_s:g} s") from None

    def last_words(self) -> str:
        """The last lines of its log; all of them are there once it ended."""
        if not self.running():
            self._log.join(LOG_S)
        return self._log.text()

    def close(self, timeout_s: float = 10.0) -> None:
        """Ask it to shut down, wait, and kill it as a last resort; idempotent."""
        with contextlib.suppress(TwinError):
            if self.running():
                self.client.shutdown()
        self.client.close()
        _end(self._child, timeout_s)

    def __enter__(self) -> TwinProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AttachedTwin:
    """A twin that somebody else started and that stays; leaving it gives its time back."""

    def __init__(self, control_address: str) -> None:
        self.control_address = control_address
        self.client = TwinClient(control_address)
        self.twin_id = str(self.client.hello()["twin_id"])

    def close(self) -> None:
        """Leave the twin; idempotent."""
        self.client.close()


def start_twin(
    config_path: str | Path,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    speed: float | None = None,
    search_path: Sequence[str | Path] = (),
    orphan_s: float = 600.0,
    end_with_parent: bool = True,
    companions: Sequence[int] = (),
    module: str = "labctl.twin",
) -> TwinProcess:
    """Start a twin and wait until it serves.

    `overrides` replace values of the file, e.g. {"world.dot.tau_x_s": 2.1e-8}; `search_path` are folders with
    the user's own simulators; `module` is what `python -m` runs. With `end_with_parent` the twin ends soon
    after this process and its `companions` (process numbers) are gone and nobody is connected, without it
    after `orphan_s` with no client.
    Raises TwinError with its reason when it cannot start as it is configured, and with the last lines of its
    log when it dies or takes longer than 60 s.
    """
    command = [sys.executable, "-P", "-m", module, "--config", str(Path(config_path).resolve())]
    command += ["--orphan-s", str(orphan_s)]
    command += ["--seed", str(seed)] if seed is not None else []
    command += ["--speed", str(speed)] if speed is not None else []
    for pid in (os.getpid(), *companions) if end_with_parent else ():
        command += ["--parent-pid", str(pid)]
    for path, value in (overrides or {}).items():
        command += ["--set", f"{path}={json.dumps(value)}"]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": _import_path(search_path)}, start_new_session=True,
    )  # fmt: skip
    try:
        log = _Log(child)
        return TwinProcess(child, _await_ready(child, log), log)
    except BaseException:
        child.kill()
        _end(child, 0.0)
        raise


def _import_path(search_path: Sequence[str | Path]) -> str:
    """The child finds the same labctl wherever it is started; `-P` keeps its working directory out."""
    here = Path(__file__).resolve().parents[2]
    folders = [str(here), *(str(Path(folder).resolve()) for folder in search_path)]
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([*folders, *([inherited] if inherited else [])])


class _Log(threading.Thread):
    """Keeps the last lines that the child wrote to stderr, and its pipe from filling up."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        super().__init__(name="twin-log", daemon=True)
        assert child.stderr is not None
        self._stream = child.stderr
        self._lines: deque[str] = deque(maxlen=50)
        self.start()

    def run(self) -> None:
        with self._stream:
            self._lines.extend(line.rstrip("\n") for line in self._stream)

    def text(self) -> str:
        return "\n".join(self._lines.copy())


def _await_ready(child: subprocess.Popen[str], log: _Log) -> dict[str, Any]:
    assert child.stdout is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_first_line, args=(child.stdout, lines), daemon=True).start()
    try:
        ready = dict(json.loads(lines.get(timeout=START_S)))
    except queue.Empty:
        problem = f"was not ready within {START_S:g} s"
    except ValueError:
        problem = "ended before it was ready"
    else:
        if "error" in ready:
            raise TwinError(str(ready["error"]))
        return ready
    child.kill()
    log.join(LOG_S)
    raise TwinError(f"the twin {problem}; the last lines of its log:\n{log.text() or '(it said nothing)'}")


def _first_line(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    with stream:
        lines.put(stream.readline())


def _end(child: subprocess.Popen[str], timeout_s: float) -> None:
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
