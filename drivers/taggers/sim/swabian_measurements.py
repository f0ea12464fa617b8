# ruff: noqa: N802 -- the names are the vendor's
"""Measurements with the vendor's names, fed by a simulated tagger.

A measurement owns a tap of the tagger while it runs. It asks for the new tags whenever somebody looks at it,
so nothing runs in the background and the same tags come however often one looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.taggers.sim.swabian_wire import Arrays


class TagType(IntEnum):
    TimeTag = 0
    Error = 1
    OverflowBegin = 2
    OverflowEnd = 3
    MissedEvents = 4


class Asking(Protocol):
    """A connection to the simulated tagger."""

    def ask(self, op: str, **arguments: Any) -> tuple[dict[str, Any], Arrays]: ...

    def value(self, op: str, **arguments: Any) -> Any: ...


class HasConnection(Protocol):
    """A tagger object."""

    @property
    def connection(self) -> Asking: ...


class IteratorBase:
    """A measurement: it takes tags from its creation on, until it is stopped."""

    def __init__(self, tagger: HasConnection, channels: Sequence[int]) -> None:
        self._connection = tagger.connection
        self._channels = [int(channel) for channel in channels]
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

    _parts: list[Arrays]

    def __init__(self, tagger: HasConnection, n_max_events: int, channels: Sequence[int]) -> None:
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
        self._parts = []

    def _consume(self, arrays: Arrays, begin_ps: int) -> None:
        count = arrays["times"].size
        self._parts.append(arrays if "types" in arrays else {**arrays, **_plain(count)})


class Countrate(IteratorBase):
    """Mean rate of each channel since the start."""

    def __init__(self, tagger: HasConnection, channels: Sequence[int]) -> None:
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
        self, tagger: HasConnection, channels: Sequence[int], binwidth: int = 1_000_000_000, n_values: int = 1
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


def _plain(count: int) -> Arrays:
    return {"types": np.zeros(count, np.uint8), "missed": np.zeros(count, np.uint16)}


def _is_tag(arrays: Arrays) -> NDArray[np.bool_] | slice:
    return arrays["types"] == TagType.TimeTag if "types" in arrays else slice(None)


def _joined(parts: list[Arrays], name: str, dtype: type) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0][name]
    return np.concatenate([part[name] for part in parts]) if parts else np.empty(0, dtype)
