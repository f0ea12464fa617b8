"""The simulated time tagger: the peer of `swabian_api` inside the twin.

It keeps the settings of the inputs and hands the world's tags to taps, one for each running measurement of
the client. What a setting does to tags that are still to come is applied when it changes: all taps are read
out first, so that a change never reaches back in time. The streams end with the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drivers.taggers.sim.swabian_tap import ASSUMED, Settings, Tap
from drivers.taggers.sim.swabian_wire import Arrays, pack, take_message, unpack
from labctl.twin.device import Reply, SimDevice, WorldPort

_EDGES: dict[int, tuple[int, ...]] = {0: (1, -1), 1: (1,), 2: (-1,), 8: (1, -1), 9: (1,), 10: (-1,)}


class RefusedError(Exception):
    """The tagger refuses a command; the text goes to the client."""


class SwabianTimeTaggerSim(SimDevice):
    """A Time Tagger Ultra whose inputs hang on the world's detectors and synchronisation signals.

    Option `serial`: its serial number. Fault `overflow` with a duration in s loses tags from now on.
    """

    def __init__(self, world: WorldPort, name: str, **options: Any) -> None:
        super().__init__(world, name, **options)
        self.serial = str(options.get("serial", "2138000TWN"))
        self.settings = Settings()
        self._tags = world.tags
        self._buffer = bytearray()
        self._taps: dict[int, Tap] = {}
        self._next_tap = 1
        self._created = False
        self._overflows = 0
        self._overflow_end_ps = -1
        self._commands: dict[str, Callable[..., Any]] = {
            "createTimeTagger": self._create,
            "scanTimeTagger": self._scan,
            "getSerial": lambda: self.serial,
            "getModel": lambda: ASSUMED["model"],
            "getFirmwareVersion": lambda: ASSUMED["firmware"],
            "getPcbVersion": lambda: ASSUMED["pcb"],
            "getSensorData": lambda: [],
            "getConfiguration": self._configuration,
            "getDACRange": lambda: list(ASSUMED["level_range_v"]),
            "getChannelList": lambda type: self._channel_list(type),
            "setTriggerLevel": self._set_level,
            "getTriggerLevel": lambda channel: self.settings.level(self._known(channel)),
            "setTestSignal": self._set_test_signal,
            "getTestSignal": lambda channel: abs(self._known(channel)) in self.settings.test_signal,
            "setDeadtime": self._set_dead_time,
            "getDeadtime": self._dead_time,
            "setInputDelay": self._set_delay,
            "getInputDelay": lambda channel: self.settings.delay_ps.get(self._known(channel), 0),
            "setEventDivider": self._set_divider,
            "getEventDivider": lambda channel: self.settings.divider.get(self._known(channel), 1),
            "setConditionalFilter": self._set_filter,
            "getConditionalFilterTrigger": lambda: self.settings.trigger,
            "getConditionalFilterFiltered": lambda: self.settings.filtered,
            "getOverflows": self._count_overflows,
            "getOverflowsAndClear": self._clear_overflows,
            "sync": lambda: None,
            "reset": self._reset,
            "open": self._open,
            "close": self._close,
        }

    def feed(self, data: bytes) -> list[Reply]:
        self._buffer += data
        replies = []
        try:
            while (message := take_message(self._buffer)) is not None:
                replies.append(self._answer(unpack(message)[0]))
        except ValueError as error:
            self._buffer.clear()
            replies.append(_refusal(f"malformed message: {error}"))
        return replies

    def disconnected(self) -> None:
        for tap in self._taps.values():
            tap.subscription.close()
        self._taps.clear()
        self._buffer.clear()
        self._created = False

    def state(self) -> dict[str, Any]:
        return {**self._configuration(), "streams": len(self._taps)}

    def trip(self, fault: str, value: Any = None) -> None:
        if fault != "overflow":
            super().trip(fault, value)
        duration_ps = round(float(ASSUMED["overflow_s"] if value is None else value) * 1e12)
        self._tags.lose(self.world.now_ps, self.world.now_ps + duration_ps)

    def _answer(self, request: dict[str, Any]) -> Reply:
        op = request.pop("op", "")
        try:
            if not self._created and op not in ("createTimeTagger", "scanTimeTagger"):
                raise RefusedError("the Time Tagger object has been freed")
            if op == "take":
                header, arrays = self._take(**request)
                return Reply(pack({"ok": True, **header}, arrays))
            if op == "wait":
                return Reply(pack({"ok": True}), due_ps=self._wait_end_ps(**request))
            if op not in self._commands:
                raise RefusedError(f"unknown command {op!r}")
            return Reply(pack({"ok": True, "value": self._commands[op](**request)}))
        except Exception as error:  # what the world refuses, in an exception of its own, the tagger refuses
            return _refusal(str(error) or type(error).__name__)

    def _create(self, serial: str, resolution: int) -> None:
        if self._created or serial not in ("", self.serial):
            raise RefusedError("No Time Tagger attached or already in use.")
        if resolution not in range(4):
            raise RefusedError(f"unknown resolution {resolution}")
        self._created = True
        self._reset()
        self._clear_overflows()

    def _scan(self, include_model_name: bool) -> list[str]:
        listed = f"{self.serial},{ASSUMED['model']}" if include_model_name else self.serial
        return [] if self._created else [listed]

    def _configuration(self) -> dict[str, Any]:
        inputs = [
            {
                "channel": channel,
                "trigger level": self.settings.level(channel),
                "test signal": channel in self.settings.test_signal,
                "delay": self.settings.delay_ps.get(channel, 0),
                "deadtime": self.settings.dead_time_ps.get(channel, ASSUMED["least_dead_time_ps"]),
                "event divider": self.settings.divider.get(channel, 1),
            }
            for channel in ASSUMED["inputs"]
        ]
        return {
            "model": ASSUMED["model"],
            "serial": self.serial,
            "inputs": inputs,
            "conditional filter": {"trigger": self.settings.trigger, "filtered": self.settings.filtered},
        }

    def _channel_list(self, edges: int) -> list[int]:
        return [sign * channel for sign in _EDGES.get(edges, ()) for channel in ASSUMED["inputs"]]

    def _known(self, channel: int) -> int:
        if abs(channel) not in ASSUMED["inputs"]:
            raise RefusedError(f"Invalid channel number {channel}.")
        return channel

    def _set_level(self, channel: int, voltage: float) -> None:
        low, high = ASSUMED["level_range_v"]
        if not low <= voltage <= high:
            raise RefusedError(f"The trigger level {voltage} V is out of range [{low}, {high}] V.")
        self._collect_all()
        self.settings.level_v[abs(self._known(channel))] = voltage
        self._apply_filter()

    def _set_test_signal(self, channel: int, enabled: bool) -> None:
        self._collect_all()
        change = self.settings.test_signal.add if enabled else self.settings.test_signal.discard
        change(abs(self._known(channel)))

    def _set_delay(self, channel: int, delay: int) -> None:
        if self._known(channel) in ASSUMED["connected_channels"]:
            self._tags.set_delay(channel, delay)
        self.settings.delay_ps[channel] = delay

    def _dead_time(self, channel: int) -> int:
        return int(self.settings.dead_time_ps.get(self._known(channel), ASSUMED["least_dead_time_ps"]))

    def _set_dead_time(self, channel: int, deadtime: int) -> int:
        if deadtime > ASSUMED["greatest_dead_time_ps"]:
            raise RefusedError(f"The dead time {deadtime} ps is too long.")
        realised = max(deadtime, ASSUMED["least_dead_time_ps"])
        if self._known(channel) in ASSUMED["connected_channels"]:
            realised = self._tags.set_dead_time(channel, realised)
        self.settings.dead_time_ps[channel] = realised
        return realised

    def _set_divider(self, channel: int, divider: int) -> None:
        if not 1 <= divider <= 65_535:
            raise RefusedError(f"The event divider {divider} is out of range [1, 65535].")
        self._collect_all()
        self.settings.divider[self._known(channel)] = divider

    def _set_filter(self, trigger: list[int], filtered: list[int]) -> None:
        for channel in (*trigger, *filtered):
            self._known(channel)
        self._collect_all()
        before = self.settings.trigger, self.settings.filtered
        self.settings.trigger, self.settings.filtered = tuple(trigger), tuple(filtered)
        try:
            self._apply_filter()
        except Exception:
            self.settings.trigger, self.settings.filtered = before
            raise

    def _apply_filter(self) -> None:
        triggers = [channel for channel in self.settings.trigger if self.settings.sees_pulses(channel)]
        self._tags.set_conditional_filter(triggers, self.settings.filtered if triggers else ())

    def _reset(self) -> None:
        self._collect_all()
        self.settings = Settings()
        for channel in ASSUMED["connected_channels"]:
            self._set_delay(channel, 0)
            self._set_dead_time(channel, 0)
        self._apply_filter()

    def _open(self, channels: list[int], duration_ps: int | None) -> dict[str, int]:
        for channel in channels:
            self._known(channel)
        connected = [channel for channel in channels if channel in ASSUMED["connected_channels"]]
        tap = Tap(self._tags.subscribe(connected), channels, duration_ps)
        number, self._next_tap = self._next_tap, self._next_tap + 1
        self._taps[number] = tap
        return {"tap": number, "begin_ps": tap.begin_ps}

    def _take(self, tap: int) -> tuple[dict[str, Any], Arrays]:
        self._collect(self._tap(tap))
        header, arrays = self._taps[tap].hand_out()
        if header["finished"]:
            self._close(tap)
        return header, arrays

    def _close(self, tap: int) -> None:
        self._tap(tap).subscription.close()
        del self._taps[tap]

    def _wait_end_ps(self, tap: int, timeout_ms: int) -> int:
        now_ps, until_ps = self.world.now_ps, self._tap(tap).until_ps
        if timeout_ms < 0 and until_ps is None:
            raise RefusedError("the measurement has no end to wait for")
        ends = [until_ps] if until_ps is not None else []
        return max(now_ps, min([*ends, now_ps + timeout_ms * 10**9] if timeout_ms >= 0 else ends))

    def _tap(self, number: int) -> Tap:
        if number not in self._taps:
            raise RefusedError("the measurement has been stopped")
        return self._taps[number]

    def _collect(self, tap: Tap) -> None:
        for begin_ps, end_ps, _ in tap.collect(self.settings):
            # the same overflow is seen by every tap, and in pieces
            self._overflows += begin_ps > self._overflow_end_ps
            self._overflow_end_ps = max(self._overflow_end_ps, end_ps)

    def _collect_all(self) -> None:
        for tap in self._taps.values():
            self._collect(tap)

    def _count_overflows(self) -> int:
        self._collect_all()
        return self._overflows

    def _clear_overflows(self) -> int:
        count, self._overflows = self._count_overflows(), 0
        return count


def _refusal(text: str) -> Reply:
    return Reply(pack({"ok": False, "error": text}))
