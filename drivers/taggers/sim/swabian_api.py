# ruff: noqa: N802 -- the names are the vendor's
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

from drivers.taggers.sim.swabian_measurements import (
    Counter,
    Countrate,
    IteratorBase,
    TagType,
    TimeTagStream,
    TimeTagStreamBuffer,
)
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
                raise ConnectionError(f"the Time Tagger was lost during {op} ({error})") from error
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
        channels = {"trigger": _integers(trigger), "filtered": _integers(filtered)}
        self.connection.value("setConditionalFilter", **channels)

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


_Tagger = TimeTagger  # the class below has an attribute of the same name


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

    def createTimeTagger(self, serial: str = "", resolution: int = Resolution.Standard) -> _Tagger:
        try:
            connection = Connection(self._host, self._port)
        except OSError as error:
            raise RuntimeError(f"{_NOT_ATTACHED} ({error})") from error
        try:
            connection.value("createTimeTagger", serial=serial, resolution=int(resolution))
        except BaseException:
            connection.close()
            raise
        return _Tagger(connection)

    def freeTimeTagger(self, tagger: _Tagger) -> None:
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
