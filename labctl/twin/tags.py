"""The inputs of the time tagger: dead time, delays and conditional filter, then a bounded buffer per reader.

Each channel is a sorted stream with a common watermark: a tag before it is final, whatever the world does
next. Sync edges are computed only where somebody reads them, which nothing else can notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from labctl.twin.config import WorldConfig
from labctl.twin.knobs import PulseTrain, WorldError
from labctl.twin.pulses import FAR_PS, Pulses, all_syncs, filtered_syncs, first_number, pulses_of

CHANNELS = (1, 2, 3, 4, 5, -5, 6)
VIS_SYNC = 3
NO_TAGS = np.empty(0, np.int64)
# jitter of an edge never exceeds this
GUARD_PS = 1_000

Times = NDArray[np.int64]
Numbers = NDArray[np.int32]


@njit(cache=True, nogil=True)
def merge(times_a: Times, channels_a: Numbers, times_b: Times, channel_b: int) -> tuple[Times, Numbers]:
    """Two sorted streams in one; at equal times the first stream comes first."""
    n = times_a.size + times_b.size
    times, channels = np.empty(n, np.int64), np.empty(n, np.int32)
    i, j = 0, 0
    for k in range(n):
        if j == times_b.size or (i < times_a.size and times_a[i] <= times_b[j]):
            times[k], channels[k] = times_a[i], channels_a[i]
            i += 1
        else:
            times[k], channels[k] = times_b[j], channel_b
            j += 1
    return times, channels


@njit(cache=True, nogil=True)
def drop_dead(times: Times, dead_ps: int, last: int) -> tuple[Times, int]:
    """Without the tags closer than `dead_ps` to the last one that passed; returns (tags, last)."""
    out = np.empty_like(times)
    n = 0
    for time_ps in times:
        if time_ps - last >= dead_ps:
            out[n] = last = time_ps
            n += 1
    return out[:n], last


@dataclass
class _TrainSegment:
    begin_ps: int
    end_ps: int
    pulses: Pulses


class SyncEdges:
    """Sync edges of the pulsed diode, for any stretch of tag time that is not yet forgotten."""

    def __init__(self, config: WorldConfig, key: int) -> None:
        self._config = config
        self._key = key
        self._delay_ps = config.detection.latency_ps + config.detection.skew_ps[VIS_SYNC]
        self._segments: list[_TrainSegment] = []

    def switch(self, now_ps: int, train: PulseTrain | None) -> None:
        """Another train from now on."""
        if self._segments and self._segments[-1].end_ps == FAR_PS:
            self._segments[-1].end_ps = now_ps
        if train is not None:
            self._segments.append(_TrainSegment(now_ps, FAR_PS, pulses_of(train, self._config, self._key)))

    def forget(self, before_ps: int) -> None:
        """Edges with tags before `before_ps` will not be asked for again."""
        oldest = before_ps - self._delay_ps - GUARD_PS
        self._segments = [s for s in self._segments if s.end_ps > oldest]

    def _range(self, segment: _TrainSegment, begin_ps: int, end_ps: int) -> tuple[int, int]:
        first = max(segment.begin_ps, begin_ps - self._delay_ps - GUARD_PS)
        last = min(segment.end_ps, end_ps - self._delay_ps + GUARD_PS)
        pulses = segment.pulses
        return first_number(first, pulses), min(first_number(last, pulses), pulses[4])

    def every(self, begin_ps: int, end_ps: int) -> Times:
        """All edges with tags in `[begin_ps, end_ps)`."""
        parts = [
            all_syncs(s.pulses, *self._range(s, begin_ps, end_ps), self._delay_ps, begin_ps, end_ps)
            for s in self._segments
        ]
        return np.concatenate(parts) if parts else NO_TAGS

    def after(self, photons: Times, begin_ps: int, end_ps: int, armed: int) -> tuple[Times, int]:
        """Of these edges the first after each photon.

        armed: time of a photon that waits for its edge, -1 if none. Returns (edges, armed).
        """
        parts, done = [NO_TAGS], 0
        for s in self._segments:
            low, high = self._range(s, begin_ps, end_ps)
            edges, done, armed = filtered_syncs(
                s.pulses, low, high, self._delay_ps, begin_ps, end_ps, photons, done, armed
            )
            parts.append(edges)
        if armed < 0 and done < photons.size:
            armed = int(photons[done])
        return (parts[1] if len(parts) == 2 else np.concatenate(parts)), armed


class Lost(NamedTuple):
    """An interval `[begin_ps, end_ps)` in which tags were lost; `missed` counts them by channel."""

    begin_ps: int
    end_ps: int
    missed: dict[int, int]


class Taken(NamedTuple):
    """All tags of a reader in `[begin_ps, end_ps)`, in time order: times_ps int64[n], channels int32[n]."""

    times_ps: Times
    channels: Numbers
    begin_ps: int
    end_ps: int
    gaps: tuple[Lost, ...]


class Subscription:
    """One reader's tags. `take` hands over everything since the last take; nothing is handed over twice."""

    def __init__(self, buffer: TagBuffer, channels: tuple[int, ...], begin_ps: int, capacity: int) -> None:
        self.channels = channels
        self._buffer = buffer
        self._capacity = capacity
        self._begin_ps = self._end_ps = begin_ps
        self._clear()

    def _clear(self) -> None:
        self._times: list[Times] = []
        self._numbers: list[Numbers] = []
        self._held = 0
        self._full = False
        self._gaps: list[Lost] = []

    def take(self) -> Taken:
        """Everything since the last take."""
        times = np.concatenate(self._times) if self._times else NO_TAGS
        numbers = np.concatenate(self._numbers) if self._numbers else np.empty(0, np.int32)
        taken = Taken(times, numbers, self._begin_ps, self._end_ps, tuple(self._gaps))
        self._begin_ps = self._end_ps
        self._clear()
        return taken

    def close(self) -> None:
        """Stop reading; later tags are dropped."""
        self._buffer.unsubscribe(self)

    def append(self, times: Times, numbers: Numbers, end_ps: int, losses: list[tuple[int, int]]) -> None:
        """The tags up to the watermark `end_ps`, less what falls into `losses` or no longer fits."""
        for begin, end in losses:
            low, high = max(begin, self._end_ps), min(end, end_ps)
            if low < high:
                times, numbers = self._lose(times, numbers, low, high)
        free = self._capacity - self._held
        if self._full or times.size > free:
            start = self._end_ps if self._full else int(times[free])
            self._full = True
            times, numbers = self._lose(times, numbers, start, end_ps)
        if times.size:
            self._times.append(times)
            self._numbers.append(numbers)
            self._held += times.size
        self._end_ps = end_ps

    def _lose(self, times: Times, numbers: Numbers, begin_ps: int, end_ps: int) -> tuple[Times, Numbers]:
        a, b = np.searchsorted(times, (begin_ps, end_ps))
        found, counts = np.unique(numbers[a:b], return_counts=True)
        missed = dict(zip(found.tolist(), counts.tolist(), strict=True))
        if self._gaps and self._gaps[-1].end_ps >= begin_ps:
            last = self._gaps.pop()
            begin_ps = last.begin_ps
            missed = {c: last.missed.get(c, 0) + missed.get(c, 0) for c in sorted({*last.missed, *missed})}
        self._gaps.append(Lost(begin_ps, end_ps, missed))
        return np.delete(times, slice(a, b)), np.delete(numbers, slice(a, b))


class TagBuffer:
    """All inputs of the time tagger and their readers."""

    def __init__(self, config: WorldConfig, sync_key: int) -> None:
        self.sync = SyncEdges(config, sync_key)
        self._capacity = config.detection.buffer_tags
        self._subscriptions: list[Subscription] = []
        self._pending: dict[int, Times] = {}
        self._last_passed = dict.fromkeys(CHANNELS, -FAR_PS)
        self._delay_ps = dict.fromkeys(CHANNELS, 0)
        self._dead_ps = dict.fromkeys(CHANNELS, 0)
        self._triggers: tuple[int, ...] = ()
        self._armed = -1
        self._losses: list[tuple[int, int]] = []
        self._watermark_ps = 0

    @property
    def watermark_ps(self) -> int:
        """Tags before this time are final."""
        return self._watermark_ps

    @property
    def conditional_filter(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(trigger channels, filtered channels); two empty tuples when there is no filter."""
        return self._triggers, (VIS_SYNC,) if self._triggers else ()

    def set_conditional_filter(self, trigger: Iterable[int], filtered: Iterable[int]) -> None:
        """Pass only the first edge of channel 3 after each tag of the trigger channels; empty: no filter."""
        triggers, filtered = tuple(trigger), tuple(filtered)
        if bool(triggers) != bool(filtered):
            raise WorldError(
                "a conditional filter needs both trigger and filtered channels, or none of either"
            )
        if triggers and filtered != (VIS_SYNC,):
            raise WorldError(f"only channel {VIS_SYNC} can be filtered, not {filtered}")
        if VIS_SYNC in triggers:
            raise WorldError(f"channel {VIS_SYNC} cannot both trigger and be filtered")
        for channel in triggers:
            _known(channel)
        self._triggers = triggers
        self._armed = -1

    def set_delay(self, channel: int, delay_ps: int) -> None:
        """Shift the coming tags of a channel; a negative delay holds back the other channels."""
        self._delay_ps[_known(channel)] = int(delay_ps)

    def set_dead_time(self, channel: int, dead_time_ps: int) -> int:
        """Dead time of an input, not extended; on a filtered channel it acts behind the filter.

        Returns the dead time that is now set.
        """
        if dead_time_ps < 0:
            raise WorldError(f"channel {channel}: a dead time cannot be negative ({dead_time_ps} ps)")
        self._dead_ps[_known(channel)] = int(dead_time_ps)
        return self._dead_ps[channel]

    def subscribe(self, channels: Iterable[int]) -> Subscription:
        """Read these channels from now on."""
        wanted = tuple(dict.fromkeys(_known(channel) for channel in channels))
        subscription = Subscription(self, wanted, self._watermark_ps, self._capacity)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop feeding a reader."""
        self._subscriptions = [s for s in self._subscriptions if s is not subscription]

    def lose(self, begin_ps: int, end_ps: int) -> None:
        """Lose all tags in `[begin_ps, end_ps)`, as an overflowing tagger does; they count as missed."""
        if not self._watermark_ps <= begin_ps < end_ps:
            raise WorldError(
                f"tags can be lost from {self._watermark_ps} ps on (earlier ones are out), "
                f"not in [{begin_ps}, {end_ps}) ps"
            )
        self._losses = _union([*self._losses, (begin_ps, end_ps)])

    def advance(self, now_ps: int, raw: dict[int, Times]) -> None:
        """Take in the new tags of each channel (sorted, all tags before `now_ps` among them)."""
        begin_ps = self._watermark_ps
        end_ps = max(begin_ps, now_ps + min(0, *self._delay_ps.values()))
        final = dict.fromkeys(CHANNELS, NO_TAGS)
        for channel in {*raw, *self._pending}:
            self._queue(channel, raw.get(channel, NO_TAGS))
            final[channel] = self._release(channel, begin_ps, end_ps)
        final[VIS_SYNC] = self._syncs(final, begin_ps, end_ps)
        for subscription in self._subscriptions:
            subscription.append(*_merged(final, subscription.channels), end_ps, self._losses)
        self._losses = [loss for loss in self._losses if loss[1] > end_ps]
        self._watermark_ps = end_ps

    def _queue(self, channel: int, times: Times) -> None:
        if self._dead_ps[channel]:
            times, self._last_passed[channel] = drop_dead(
                times, self._dead_ps[channel], self._last_passed[channel]
            )
        if not times.size:
            return
        if self._delay_ps[channel]:
            times = times + self._delay_ps[channel]
        waiting = self._pending.get(channel)
        if waiting is None:
            self._pending[channel] = times
            return
        joined = np.concatenate((waiting, times))
        # out of order only where a delay was just made smaller
        self._pending[channel] = joined if waiting[-1] <= times[0] else np.sort(joined)

    def _release(self, channel: int, begin_ps: int, end_ps: int) -> Times:
        waiting = self._pending.pop(channel, NO_TAGS)
        a, b = np.searchsorted(waiting, (begin_ps, end_ps))
        if b < waiting.size:
            self._pending[channel] = waiting[b:]
        return waiting[a:b]

    def _syncs(self, final: dict[int, Times], begin_ps: int, end_ps: int) -> Times:
        delay_ps = self._delay_ps[VIS_SYNC]
        raw_begin, raw_end = begin_ps - delay_ps, end_ps - delay_ps
        if self._triggers:
            photons = _merged(final, self._triggers)[0]
            edges, self._armed = self.sync.after(photons - delay_ps, raw_begin, raw_end, self._armed)
        elif any(VIS_SYNC in s.channels for s in self._subscriptions):
            edges = self.sync.every(raw_begin, raw_end)
        else:
            edges = NO_TAGS
        self.sync.forget(raw_end - 2 * abs(delay_ps))
        if self._dead_ps[VIS_SYNC]:
            edges, self._last_passed[VIS_SYNC] = drop_dead(
                edges, self._dead_ps[VIS_SYNC], self._last_passed[VIS_SYNC]
            )
        return edges + delay_ps


def _known(channel: int) -> int:
    if channel not in CHANNELS:
        raise WorldError(f"the tagger has no channel {channel}; there are {CHANNELS}")
    return int(channel)


def _union(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(intervals):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _merged(final: dict[int, Times], channels: tuple[int, ...]) -> tuple[Times, Numbers]:
    present = [channel for channel in channels if final[channel].size]
    if not present:
        return NO_TAGS, np.empty(0, np.int32)
    times = final[present[0]]
    numbers = np.full(times.size, present[0], np.int32)
    for channel in present[1:]:
        times, numbers = merge(times, numbers, final[channel], channel)
    return times, numbers
