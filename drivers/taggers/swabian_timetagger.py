"""Swabian Instruments Time Tagger, through the vendor's library or an object with the vendor's names.

Tags are streamed in slices of bench time and leave as consecutive blocks that cover exactly the wanted
stretch of tagger time, with every loss marked as a gap. Nothing is inherited from an earlier user:
`establish()` resets the tagger and sets levels, delays, dead times and the filter explicitly.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qcodes.parameters import Parameter

from drivers.taggers.swabian_blocks import BlockMaker
from labctl.clock import Clock
from labctl.instruments.base import Identity, LabInstrument, SafeReport
from labctl.instruments.errors import (
    CommandRejected,
    DataLoss,
    InstrumentDisconnected,
    InstrumentError,
    InstrumentTimeout,
    LimitExceeded,
    NotReady,
    VendorLibraryMissing,
)
from labctl.timetags.block import TagBlock

DEFAULT_LEVEL_V = 0.5
_VENDOR_MODULES = ("Swabian.TimeTagger", "TimeTagger")
_LEVEL_TOLERANCE_V = 0.02  # the level is realised by a converter with steps of some mV
_POLL_S = 1e-3
_STALL_S = 5.0


class SwabianTimeTagger(LabInstrument):
    """A Time Tagger 20, Ultra or X.

    address: `swabian:` (the first tagger found), `swabian:SERIAL`, or `vendor://MODULE@host:port`, where
        `MODULE.connect(host, port)` returns an object with the vendor's names.
    trigger_levels: V by input; an input without one has the vendor's 0.5 V.
    input_delays_ps, dead_times_ps: by channel; a falling edge (-n) has the delay of its input unless it has
        one of its own; without a dead time the tagger's least one holds.
    conditional_filter: (trigger channels, filtered channels); a filtered channel passes only its first tag
        after a tag of a trigger channel, so its rate is no longer that of its source.
    stream_buffer: tags that the library holds between two slices.
    """

    overflows: Parameter
    trigger_levels: Parameter
    _tagger: Any = None  # of the class, because QCoDeS strips a closed instrument of its own attributes

    def __init__(
        self,
        name: str,
        address: str,
        *,
        clock: Clock | None = None,
        serial: str = "",
        trigger_levels: Mapping[int, float] | None = None,
        input_delays_ps: Mapping[int, int] | None = None,
        dead_times_ps: Mapping[int, int] | None = None,
        conditional_filter: tuple[Sequence[int], Sequence[int]] = ((), ()),
        stream_buffer: int = 4_000_000,
    ) -> None:
        super().__init__(name, clock=clock)
        self.address = address
        self.epoch = 0
        self._levels = _by_channel(trigger_levels)
        self._delays = _by_channel(input_delays_ps)
        self._dead_times = _by_channel(dead_times_ps)
        self._filter = conditional_filter
        self._stream_buffer = stream_buffer
        self._streams: list[Any] = []
        try:
            self._library, located = _load_library(name, address)
            self._serial = serial or located
            self._create()
        except BaseException:
            super().close()
            raise
        self.overflows = self.add_parameter(
            "overflows",
            label="Overflows",
            docstring="Blocks of tags that the tagger lost since the modes were established.",
            get_cmd=lambda: int(self._ask("getOverflows")),
        )
        self.trigger_levels = self.add_parameter(
            "trigger_levels",
            label="Trigger levels",
            unit="V",
            docstring="Trigger level of every input, by input; set with set_trigger().",
            get_cmd=lambda: {c: float(self._ask("getTriggerLevel", c)) for c in self._known if c > 0},
        )

    def channels(self) -> list[int]:
        """All channels: inputs as positive numbers, their falling edges as negative ones."""
        return list(self._known)

    def stream(self, channels: list[int], duration_s: float, slice_s: float = 0.1) -> Iterator[TagBlock]:
        """Tags of `channels` as consecutive blocks that cover exactly `duration_s` of tagger time.

        slice_s: bench time between two reads. Lost tags are gaps of the blocks. Closing the iterator stops
        the stream. Raises LimitExceeded for unknown channels or a duration that is not positive, and while
        iterating ProtocolError, DataLoss, InstrumentDisconnected, InstrumentTimeout (the tagger's time
        stands still) and NotReady (the stream was stopped by `safe()`).
        """
        duration_ps = round(duration_s * 1e12)
        if duration_ps <= 0 or slice_s <= 0:
            raise LimitExceeded(
                f"duration {duration_s:g} s and slice {slice_s:g} s must be positive", instrument=self.name
            )
        if not channels:
            raise LimitExceeded("no channels to stream", instrument=self.name, hint="name at least one")
        self._check_channels(channels)
        return self._blocks(list(channels), duration_ps, slice_s)

    def count_rates(self, channels: list[int], duration_s: float) -> dict[int, float]:
        """Mean rates in 1/s over `duration_s`, gaps left out; of a filtered channel the rate that passes.

        Raises DataLoss when all of the time was lost, otherwise as `stream`.
        """
        counts = dict.fromkeys(channels, 0)
        live_ps = 0
        for block in self.stream(channels, duration_s):
            live_ps += block.live_time_ps
            for channel in counts:
                counts[channel] += int(np.count_nonzero(block.channels == channel))
        if not live_ps:
            raise DataLoss(
                "all tags were lost", instrument=self.name, hint="lower the count rates or filter the sync"
            )
        return {channel: count / (live_ps * 1e-12) for channel, count in counts.items()}

    def set_trigger(self, channel: int, level_v: float) -> None:
        """Trigger level of an input in V.

        Raises LimitExceeded, and CommandRejected when another level reads back.
        """
        self._check_channels([channel])
        low, high = self._level_range
        if not low <= level_v <= high:
            raise LimitExceeded(
                f"trigger level {level_v:g} V of channel {channel} lies outside {low:g} to {high:g} V",
                instrument=self.name,
            )
        self._ask("setTriggerLevel", abs(channel), float(level_v))
        applied = float(self._ask("getTriggerLevel", abs(channel)))
        if abs(applied - level_v) > _LEVEL_TOLERANCE_V:
            raise CommandRejected(
                f"trigger level {level_v:g} V of channel {channel} reads back as {applied:g} V",
                code="read-back",
                instrument=self.name,
                command="setTriggerLevel",
            )

    def set_delay(self, channel: int, delay_ps: int) -> None:
        """Delay added to the tags of one channel (an edge of an input)."""
        self._check_channels([channel])
        self._ask("setInputDelay", channel, int(delay_ps))

    def set_dead_time(self, channel: int, dead_time_ps: int) -> int:
        """Dead time of a channel; returns what the tagger realises."""
        self._check_channels([channel])
        if dead_time_ps < 0:
            raise LimitExceeded(f"dead time {dead_time_ps} ps is negative", instrument=self.name)
        return int(self._ask("setDeadtime", channel, int(dead_time_ps)))

    def set_conditional_filter(self, trigger: list[int], filtered: list[int]) -> None:
        """Pass only the first tag of each `filtered` channel after a tag of a `trigger` channel.

        Either list empty: everything passes.
        """
        self._check_channels([*trigger, *filtered])
        if not trigger or not filtered:
            self._ask("clearConditionalFilter")
        else:
            self._ask("setConditionalFilter", list(trigger), list(filtered))

    def establish(self) -> None:
        """Reset the tagger and set levels, delays, dead times and the filter; forget old overflows."""
        self._ask("reset")
        named = {abs(c) for c in (*self._levels, *self._delays, *self._dead_times)}
        used = sorted(named or {abs(c) for c in self._known})
        for channel in used:
            self._ask("setTestSignal", channel, False)
            self.set_trigger(channel, self._levels.get(channel, DEFAULT_LEVEL_V))
        for edge in (sign * channel for channel in used for sign in (1, -1) if sign * channel in self._known):
            self._ask("setEventDivider", edge, 1)
            self.set_delay(edge, self._delays.get(edge, self._delays.get(abs(edge), 0)))
        for channel, dead_time_ps in self._dead_times.items():
            self.set_dead_time(channel, dead_time_ps)
        trigger, filtered = self._filter
        self.set_conditional_filter(list(trigger), list(filtered))
        self._ask("sync")
        self._ask("clearOverflows")

    def identity(self) -> Identity:
        return Identity(
            "Swabian Instruments",
            str(self._ask("getModel")),
            str(self._ask("getSerial")),
            str(self._ask("getFirmwareVersion")),
        )

    def state_text(self) -> str:
        return f"{len(self._streams)} streams running, {self.overflows()} overflows"

    def reconnect(self) -> None:
        """Open the tagger again after it was lost; a new epoch begins and the modes are established anew."""
        self._release()
        self._create()
        self.establish()

    def safe(self) -> SafeReport:
        """Stop all streams; the inputs are left as they are."""
        failures = []
        for stream in list(self._streams):
            try:
                self._stop(stream)
            except InstrumentError as error:
                failures.append(str(error))
        return SafeReport(self.name, not failures, ("all streams stopped", *failures))

    def close(self) -> None:
        """Stop all streams and give the tagger back. Idempotent."""
        if self.is_valid(self):
            self._release()
            super().close()

    def _create(self) -> None:
        try:
            self._tagger = self._library.createTimeTagger(serial=self._serial)
        except (RuntimeError, OSError) as error:
            raise InstrumentDisconnected(
                f"no tagger at {self.address!r} ({error})",
                instrument=self.name,
                command="createTimeTagger",
                hint="check USB cable, serial number and that no other program holds it",
            ) from error
        self.epoch += 1
        self._known = tuple(int(channel) for channel in self._ask("getChannelList"))
        low, high = self._ask("getDACRange")
        self._level_range = (float(low), float(high))

    def _release(self) -> None:
        self.safe()
        if self._tagger is not None:
            tagger, self._tagger = self._tagger, None
            self._call("freeTimeTagger", self._library.freeTimeTagger, tagger)

    def _blocks(self, channels: list[int], duration_ps: int, slice_s: float) -> Iterator[TagBlock]:
        stream = self._call(
            "TimeTagStream", self._library.TimeTagStream, self._opened(), self._stream_buffer, channels
        )
        self._streams.append(stream)
        blocks = BlockMaker(
            self.name,
            self._library.TagType,
            capacity=self._stream_buffer,
            duration_ps=duration_ps,
            epoch=self.epoch,
        )
        progress_s, shortest_s = self.clock.now(), 0.0
        try:
            while blocks.remaining_ps > 0:
                self.clock.sleep(max(min(slice_s, blocks.remaining_ps * 1e-12), shortest_s))
                if stream not in self._streams:
                    raise NotReady("the stream was stopped", instrument=self.name, hint="start it again")
                block = blocks.convert(self._call("getData", stream.getData))
                if block is not None:
                    yield block
                    progress_s, shortest_s = self.clock.now(), 0.0
                elif self.clock.now() - progress_s > _STALL_S:
                    raise InstrumentTimeout(
                        f"the tagger's time stands still for {_STALL_S:g} s",
                        instrument=self.name,
                        command="TimeTagStream.getData",
                        hint="check its USB cable and reference clock, then reconnect()",
                    )
                else:
                    shortest_s = _POLL_S  # tags arrive in blocks: the tagger's time moves in steps
        finally:
            self._stop(stream)

    def _stop(self, stream: Any) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            self._call("stop", stream.stop)

    def _check_channels(self, channels: Sequence[int]) -> None:
        unknown = [channel for channel in channels if channel not in self._known]
        if unknown:
            raise LimitExceeded(
                f"unknown channels {unknown}", instrument=self.name, hint=f"known are {self.channels()}"
            )

    def _opened(self) -> Any:
        if self._tagger is None:
            raise InstrumentDisconnected(
                "the tagger is closed", instrument=self.name, hint="reconnect() opens it"
            )
        return self._tagger

    def _ask(self, method: str, *arguments: Any) -> Any:
        return self._call(method, getattr(self._opened(), method), *arguments)

    def _call(self, command: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the vendor's library and turn its errors into labctl's."""
        try:
            return function(*arguments)
        except OSError as error:
            raise InstrumentDisconnected(
                f"the tagger is gone ({error})",
                instrument=self.name,
                command=command,
                hint="check power and cable, then reconnect()",
            ) from error
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise CommandRejected(
                f"the tagger's library refused {arguments} ({error})",
                code=type(error).__name__,
                instrument=self.name,
                command=command,
            ) from error


def _by_channel(values: Mapping[int, Any] | None) -> dict[int, Any]:
    return {int(channel): value for channel, value in (values or {}).items()}


def _load_library(name: str, address: str) -> tuple[Any, str]:
    """The vendor's module, or an object with its names, and the serial number in the address."""
    if address.startswith("swabian:"):
        for module in _VENDOR_MODULES:
            try:
                return importlib.import_module(module), address.removeprefix("swabian:")
            except ImportError:
                continue
        raise VendorLibraryMissing(
            "the library of the Time Tagger is not installed",
            instrument=name,
            hint="pip install Swabian-TimeTagger",
        )
    module, _, endpoint = address.removeprefix("vendor://").rpartition("@")
    host, _, port = endpoint.rpartition(":")
    if not address.startswith("vendor://") or not module or not port.isdigit():
        raise InstrumentDisconnected(
            f"address {address!r} names no tagger",
            instrument=name,
            hint="write swabian:, swabian:SERIAL or vendor://MODULE@host:port in the bench file",
        )
    try:
        return importlib.import_module(module).connect(host, int(port)), ""
    except ImportError as error:
        raise VendorLibraryMissing(
            f"the module {module} cannot be imported ({error})", instrument=name, hint="correct the address"
        ) from error
