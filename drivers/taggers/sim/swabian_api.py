# ruff: noqa: N802, N803 -- the names are the vendor's
"""The Swabian library without a tagger: the vendor's names and keywords, answered by a simulated tagger.

`connect(host, port)` returns an object that stands for the module `Swabian.TimeTagger`. Its classes do what
the vendor's do in the client's process; tags come in blocks over one TCP connection, which a tagger object
opens when it is created and closes when it is freed.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.taggers.sim.swabian_wire import Arrays, message_length, pack, unpack

CHANNEL_UNUSED = -134217728
VERSION = "2.22.6"
_CONNECT_TIMEOUT_S = 5.0
_REPLY_TIMEOUT_S = 120.0  # of wall time: a late reply may have to wait for a twin that computes or paces
_NOT_ATTACHED = "No Time Tagger attached or already in use."


class Resolution(IntEnum):
    Standard = 0
    HighResA = 1
    HighResB = 2
    HighResC = 3


class TagType(IntEnum):
    TimeTag = 0
    Error = 1
    OverflowBegin = 2
    OverflowEnd = 3
    MissedEvents = 4


class ChannelEdge(IntEnum):
    All = 0
    Rising = 1
    Falling = 2
    HighResAll = 4
    HighResRising = 5
    HighResFalling = 6
    StandardAll = 8
    StandardRising = 9
    StandardFalling = 10


class Connection:
    """Question and answer with the simulated tagger; one lock, so any thread may ask."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_REPLY_TIMEOUT_S)
        self._lock = threading.Lock()

    def ask(self, op: str, **arguments: Any) -> tuple[dict[str, Any], Arrays]:
        """Raises RuntimeError when the tagger refuses, ConnectionError when it is gone."""
        with self._lock:
            try:
                self._socket.sendall(pack({"op": op, **arguments}))
                header, arrays = unpack(self._receive())
            except (OSError, ValueError) as error:
                self._socket.close()  # a late answer must never be taken for the next one
                raise ConnectionError(f"the connection to the Time Tagger was lost during {op} ({error})") from error
        if not header["ok"]:
            raise RuntimeError(header["error"])
        return header, arrays

    def value(self, op: str, **arguments: Any) -> Any:
        """The value of a question that has no arrays in its answer."""
        return self.ask(op, **arguments)[0].get("value")

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytearray:
        prefix = self._exactly(bytearray(4), 0)
        length = message_length(prefix)
        assert length is not None
        return self._exactly(prefix + bytearray(length - 4), 4)

    def _exactly(self, buffer: bytearray, filled: int) -> bytearray:
        with memoryview(buffer) as view:
            while filled < len(buffer):
                count = self._socket.recv_into(view[filled:])
                if not count:
                    raise ConnectionResetError("the tagger closed the connection")
                filled += count
        return buffer


class TimeTagger:
    """A tagger; made by `createTimeTagger`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def getSerial(self) -> str:
        return str(self.connection.value("getSerial"))

    def getModel(self) -> str:
        return str(self.connection.value("getModel"))

    def getFirmwareVersion(self) -> str:
        return str(self.connection.value("getFirmwareVersion"))

    def getPcbVersion(self) -> str:
        return str(self.connection.value("getPcbVersion"))

    def getSensorData(self) -> Any:
        return self.connection.value("getSensorData")

    def getConfiguration(self) -> dict[str, Any]:
        return dict(self.connection.value("getConfiguration"))

    def getDACRange(self) -> tuple[float, ...]:
        return tuple(self.connection.value("getDACRange"))

    def getChannelList(self, type: int = ChannelEdge.All) -> tuple[int, ...]:
        return tuple(self.connection.value("getChannelList", type=int(type)))

    def setTriggerLevel(self, channel: int, voltage: float) -> None:
        self.connection.value("setTriggerLevel", channel=int(channel), voltage=float(voltage))

    def getTriggerLevel(self, channel: int) -> float:
        return float(self.connection.value("getTriggerLevel", channel=int(channel)))

    def setTestSignal(self, channel: int | Sequence[int], enabled: bool) -> None:
        for number in [channel] if isinstance(channel, int) else channel:
            self.connection.value("setTestSignal", channel=int(number), enabled=bool(enabled))

    def getTestSignal(self, channel: int) -> bool:
        return bool(self.connection.value("getTestSignal", channel=int(channel)))

    def setDeadtime(self, channel: int, deadtime: int) -> int:
        return int(self.connection.value("setDeadtime", channel=int(channel), deadtime=int(deadtime)))

    def getDeadtime(self, channel: int) -> int:
        return int(self.connection.value("getDeadtime", channel=int(channel)))

    def setInputDelay(self, channel: int, delay: int) -> None:
        self.connection.value("setInputDelay", channel=int(channel), delay=int(delay))

    def getInputDelay(self, channel: int) -> int:
        return int(self.connection.value("getInputDelay", channel=int(channel)))

    def setEventDivider(self, channel: int, divider: int) -> None:
        self.connection.value("setEventDivider", channel=int(channel), divider=int(divider))

    def getEventDivider(self, channel: int) -> int:
        return int(self.connection.value("getEventDivider", channel=int(channel)))

    def setConditionalFilter(self, trigger: Sequence[int], filtered: Sequence[int]) -> None:
        self.connection.value("setConditionalFilter", trigger=_integers(trigger), filtered=_integers(filtered))

    def clearConditionalFilter(self) -> None:
        self.setConditionalFilter(trigger=[], filtered=[])

    def getConditionalFilterTrigger(self) -> tuple[int, ...]:
        return tuple(self.connection.value("getConditionalFilterTrigger"))

    def getConditionalFilterFiltered(self) -> tuple[int, ...]:
        return tuple(self.connection.value("getConditionalFilterFiltered"))

    def getOverflows(self) -> int:
        return int(self.connection.value("getOverflows"))

    def getOverflowsAndClear(self) -> int:
        return int(self.connection.value("getOverflowsAndClear"))

    def clearOverflows(self) -> None:
        self.getOverflowsAndClear()

    def isUnusedChannel(self, channel: int) -> bool:
        return channel == CHANNEL_UNUSED

    def getInvertedChannel(self, channel: int) -> int:
        return -channel if -channel in self.getChannelList() else CHANNEL_UNUSED

    def sync(self, timeout: int = -1) -> bool:
        """Always True: a setting has reached the simulated tagger when its call returns."""
        self.connection.value("sync")
        return True

    def reset(self) -> None:
        self.connection.value("reset")


class IteratorBase:
    """A measurement: it takes tags from its creation on, until it is stopped."""

    def __init__(self, tagger: TimeTagger, channels: Sequence[int]) -> None:
        self._connection = tagger.connection
        self._channels = _integers(channels)
        self._tap: int | None = None
        self._start_ps = self._end_ps = self._captured_ps = 0
        self._reset()
        self.start()

    def start(self) -> None:
        self._open(None)

    def startFor(self, capture_duration: int, clear: bool = True) -> None:
        self.stop()
        if clear:
            self.clear()
        self._open(int(capture_duration))

    def stop(self) -> None:
        self._pull()
        if self._tap is not None:
            self._connection.value("close", tap=self._tap)
            self._tap = None

    def clear(self) -> None:
        self._pull()
        self._start_ps, self._captured_ps = self._end_ps, 0
        self._reset()

    def abort(self) -> None:
        self.stop()
        self.clear()

    def isRunning(self) -> bool:
        self._pull()
        return self._tap is not None

    def getCaptureDuration(self) -> int:
        self._pull()
        return self._captured_ps

    def waitUntilFinished(self, timeout: int = -1) -> bool:
        """Wait for the end of `startFor`, at most `timeout` ms of the bench's time; True if it has ended."""
        if self.isRunning():
            self._connection.value("wait", tap=self._tap, timeout_ms=int(timeout))
        return not self.isRunning()

    def _open(self, duration_ps: int | None) -> None:
        if self._tap is not None:
            return
        opened = self._connection.value("open", channels=self._channels, duration_ps=duration_ps)
        self._tap, self._end_ps = opened["tap"], opened["begin_ps"]
        if not self._captured_ps:
            self._start_ps = self._end_ps

    def _pull(self) -> None:
        if self._tap is None:
            return
        header, arrays = self._connection.ask("take", tap=self._tap)
        begin_ps, self._end_ps = header["begin_ps"], header["end_ps"]
        if header["finished"]:
            self._tap = None
        self._captured_ps += self._end_ps - begin_ps
        self._consume(arrays, begin_ps)

    def _reset(self) -> None:
        """Forget the data."""
        raise NotImplementedError

    def _consume(self, arrays: Arrays, begin_ps: int) -> None:
        """Take in new tags; `_captured_ps` and `_end_ps` already hold the new values."""
        raise NotImplementedError


class TimeTagStreamBuffer:
    """Tags of one `getData`: `tStart` is when the stream began, `tGetData` how far it had come."""

    def __init__(self, parts: list[Arrays], limit: int, start_ps: int, end_ps: int) -> None:
        self.tStart = start_ps
        self.tGetData = end_ps
        self._times, self._channels = _joined(parts, "times", np.int64), _joined(parts, "channels", np.int32)
        self._types, self._missed = _joined(parts, "types", np.uint8), _joined(parts, "missed", np.uint16)
        self.hasOverflows = bool(self._types.any())
        self.size = min(self._times.size, limit)

    def getTimestamps(self) -> NDArray[np.int64]:
        return self._times[: self.size]

    def getChannels(self) -> NDArray[np.int32]:
        return self._channels[: self.size]

    def getEventTypes(self) -> NDArray[np.uint8]:
        return self._types[: self.size]

    def getMissedEvents(self) -> NDArray[np.uint16]:
        return self._missed[: self.size]


class TimeTagStream(IteratorBase):
    """All tags, each handed out once; beyond `n_max_events` between two `getData` they are lost."""

    def __init__(self, tagger: TimeTagger, n_max_events: int, channels: Sequence[int]) -> None:
        self._limit = int(n_max_events)
        super().__init__(tagger, channels)

    def getCounts(self) -> int:
        self._pull()
        return min(sum(part["times"].size for part in self._parts), self._limit)

    def getData(self) -> TimeTagStreamBuffer:
        self._pull()
        parts, self._parts = self._parts, []
        return TimeTagStreamBuffer(parts, self._limit, self._start_ps, self._end_ps)

    def _reset(self) -> None:
        self._parts: list[Arrays] = []

    def _consume(self, arrays: Arrays, begin_ps: int) -> None:
        count = arrays["times"].size
        self._parts.append(arrays if "types" in arrays else {**arrays, **_plain(count)})


class Countrate(IteratorBase):
    """Mean rate of each channel since the start."""

    def __init__(self, tagger: TimeTagger, channels: Sequence[int]) -> None:
        super().__init__(tagger, channels)

    def getCountsTotal(self) -> NDArray[np.int64]:
        self._pull()
        return self._counts.copy()

    def getData(self) -> NDArray[np.float64]:
        counts = self.getCountsTotal()
        return counts / (self._captured_ps * 1e-12) if self._captured_ps else np.full(counts.shape, np.nan)

    def _reset(self) -> None:
        self._counts = np.zeros(len(self._channels), np.int64)

    def _consume(self, arrays: Arrays, begin_ps: int) -> None:
        channels = arrays["channels"][_is_tag(arrays)]
        self._counts += [np.count_nonzero(channels == channel) for channel in self._channels]


class Counter(IteratorBase):
    """Counts of each channel in consecutive bins; the last `n_values` complete bins are kept."""

    def __init__(
        self, tagger: TimeTagger, channels: Sequence[int], binwidth: int = 1_000_000_000, n_values: int = 1
    ) -> None:
        self._binwidth = int(binwidth)
        self._n_values = int(n_values)
        super().__init__(tagger, channels)

    def getIndex(self) -> NDArray[np.int64]:
        return np.arange(self._n_values, dtype=np.int64) * self._binwidth

    def getData(self, rolling: bool = True) -> NDArray[np.int32]:
        self._pull()
        complete = self._window[:, :-1]
        return complete.copy() if rolling else np.roll(complete, self._bin % self._n_values, axis=1)

    def _reset(self) -> None:
        self._bin = 0  # number of the bin that is being filled: the last column
        self._window = np.zeros((len(self._channels), self._n_values + 1), np.int32)

    def _consume(self, arrays: Arrays, begin_ps: int) -> None:
        current = self._captured_ps // self._binwidth
        self._shift(current - self._bin)
        self._bin = current
        mask = _is_tag(arrays)
        elapsed = arrays["times"][mask] - self._end_ps + self._captured_ps
        columns = elapsed // self._binwidth - current + self._n_values
        for row, channel in zip(self._window, self._channels, strict=True):
            found = columns[(arrays["channels"][mask] == channel) & (columns >= 0)]
            row += np.bincount(found, minlength=row.size).astype(np.int32)

    def _shift(self, bins: int) -> None:
        bins = min(bins, self._window.shape[1])
        self._window = np.roll(self._window, -bins, axis=1)
        self._window[:, self._window.shape[1] - bins :] = 0


class Library:
    """What the module `Swabian.TimeTagger` offers, bound to one simulated tagger."""

    CHANNEL_UNUSED = CHANNEL_UNUSED
    Resolution = Resolution
    TagType = TagType
    ChannelEdge = ChannelEdge
    TimeTagger = TimeTagger
    TimeTagStream = TimeTagStream
    TimeTagStreamBuffer = TimeTagStreamBuffer
    Countrate = Countrate
    Counter = Counter
    IteratorBase = IteratorBase

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    def createTimeTagger(self, serial: str = "", resolution: int = Resolution.Standard) -> TimeTagger:
        try:
            connection = Connection(self._host, self._port)
        except OSError as error:
            raise RuntimeError(f"{_NOT_ATTACHED} ({error})") from error
        try:
            connection.value("createTimeTagger", serial=serial, resolution=int(resolution))
        except BaseException:
            connection.close()
            raise
        return TimeTagger(connection)

    def freeTimeTagger(self, tagger: TimeTagger) -> None:
        tagger.connection.close()

    def scanTimeTagger(self, include_model_name: bool = False) -> tuple[str, ...]:
        try:
            connection = Connection(self._host, self._port)
        except OSError:
            return ()
        try:
            return tuple(connection.value("scanTimeTagger", include_model_name=bool(include_model_name)))
        finally:
            connection.close()

    def getVersion(self) -> str:
        return VERSION


def connect(host: str, port: int) -> Library:
    """An object with the names of the vendor's module, for the simulated tagger at (host, port)."""
    return Library(host, port)


def _integers(channels: Sequence[int]) -> list[int]:
    return [int(channel) for channel in channels]


def _plain(count: int) -> Arrays:
    return {"types": np.zeros(count, np.uint8), "missed": np.zeros(count, np.uint16)}


def _is_tag(arrays: Arrays) -> NDArray[np.bool_] | slice:
    return arrays["types"] == TagType.TimeTag if "types" in arrays else slice(None)


def _joined(parts: list[Arrays], name: str, dtype: type) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0][name]
    return np.concatenate([part[name] for part in parts]) if parts else np.empty(0, dtype)
