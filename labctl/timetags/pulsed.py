"""Correlation and decay by excitation pulse: each photon is assigned to a pulse through its sync tag.

Taggers thin the sync stream with a conditional filter that passes only the first sync after each photon; the
pulse that excited the photon is then one period before that sync. Without the filter it is the last sync.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.block import TagBlock
from labctl.timetags.kernels import assign_pulses, count_pulse_pairs, split_syncs
from labctl.timetags.selecting import Selector
from labctl.timetags.stream import Stretch, Watermark, whole_ps


@dataclass(frozen=True)
class PulsedPhotons:
    """Photons in time order with the times of their pulses; all arrays have one entry per photon (ps)."""

    channels: NDArray[np.int32]
    pulses_ps: NDArray[np.int64]
    micro_ps: NDArray[np.int64]


class PulseAssigner:
    """Gives each photon of `channels` its pulse; a photon waits while its sync has not arrived.

    Syncs are strictly later than their photon with `sync_follows`, else at or before it. A photon whose sync
    is more than 1.5 periods away has no pulse and is counted in `unassigned`, as is one whose sync a gap
    took away.
    """

    def __init__(self, channels: Sequence[int], sync: int, period_ps: int, sync_follows: bool) -> None:
        self._selector, self._follows = Selector((*channels, sync)), sync_follows
        self._sync_code = self._selector.channels.index(int(sync))
        self._numbers = np.array(self._selector.channels, np.int32)
        self.period_ps = whole_ps("period_ps", period_ps)
        if sync in channels:
            raise ValueError(f"channel {sync} cannot be both sync and photon channel")
        self.unassigned = 0
        self._waiting_times: NDArray[np.int64] = np.empty(0, np.int64)
        self._waiting_codes: NDArray[np.int32] = np.empty(0, np.int32)
        self._last_sync: NDArray[np.int64] = np.empty(0, np.int64)

    def assign(self, stretch: Stretch) -> PulsedPhotons:
        """The photons whose pulse is known by the end of `stretch` and was not known before."""
        if not stretch.continues:
            self.unassigned += self._waiting_times.size
            self._waiting_times, self._waiting_codes = np.empty(0, np.int64), np.empty(0, np.int32)
            self._last_sync = np.empty(0, np.int64)
        found, codes = self._selector.select(stretch.times_ps, stretch.channels)
        photons, photon_codes, new_syncs, before = split_syncs(found, codes, self._sync_code)
        known = self._last_sync.size
        times = np.concatenate([self._waiting_times, photons])
        codes = np.concatenate([self._waiting_codes, photon_codes])
        syncs = np.concatenate([self._last_sync, new_syncs])
        # photons that waited are later than all syncs known then, and earlier than all new ones
        position = np.concatenate([np.full(self._waiting_times.size, known), before + known])
        self._last_sync = syncs[-1:]
        if not self._follows:
            return self._assigned(times, codes, syncs, position - 1, 0)
        decided = times.size - self._number_waiting(times, position == syncs.size, stretch.end_ps)
        self._waiting_times, self._waiting_codes = times[decided:].copy(), codes[decided:].copy()
        return self._assigned(times[:decided], codes[:decided], syncs, position[:decided], self.period_ps)

    def _number_waiting(self, times: NDArray[np.int64], is_open: NDArray[np.bool_], end_ps: int) -> int:
        """How many photons, the last ones, may still find a sync: one that comes lies at or after the end."""
        oldest = np.searchsorted(times, end_ps - 3 * self.period_ps // 2)
        return int(np.count_nonzero(is_open[oldest:]))

    def _assigned(
        self,
        times: NDArray[np.int64],
        codes: NDArray[np.int32],
        syncs: NDArray[np.int64],
        position: NDArray[np.int64],
        ahead_ps: int,
    ) -> PulsedPhotons:
        codes, pulses, micro = assign_pulses(times, codes, syncs, position, 3 * self.period_ps, ahead_ps)
        self.unassigned += times.size - codes.size
        return PulsedPhotons(self._numbers[codes], pulses, micro)


class PulsePairs:
    """Counts pairs by pulse-number difference (b minus a) over photons that arrive in pulse order.

    Difference = round(pulse distance / period), halves away from zero: swapping a and b mirrors `counts`.
    """

    def __init__(self, lags: int, period: int) -> None:
        if lags < 0:
            raise ValueError(f"lags must be 0 or more, got {lags}")
        self.lags: NDArray[np.int64] = np.arange(-lags, lags + 1, dtype=np.int64)
        self.counts: NDArray[np.int64] = np.zeros(2 * lags + 1, np.int64)
        self._reach, self._period = int(lags), int(period)
        self.restart()

    def restart(self) -> None:
        """Form no pair across this point."""
        self._pulses = np.empty(0, np.int64)
        self._on_a, self._on_b = np.empty(0, np.bool_), np.empty(0, np.bool_)

    def feed(self, pulses: NDArray[np.int64], on_a: NDArray[np.bool_], on_b: NDArray[np.bool_]) -> None:
        """Add photons that are not before any earlier one (pulses in the unit of the period)."""
        first = self._pulses.size
        pulses = np.concatenate([self._pulses, pulses])
        on_a, on_b = np.concatenate([self._on_a, on_a]), np.concatenate([self._on_b, on_b])
        count_pulse_pairs(pulses, on_a, on_b, first, self._period, self._reach, self.counts)
        if pulses.size:
            oldest = int(np.searchsorted(pulses, pulses[-1] - (self._reach + 1) * self._period))
            self._pulses, self._on_a, self._on_b = pulses[oldest:], on_a[oldest:], on_b[oldest:]


class PulsedCorrelation:
    """Coincidences of channels a and b by pulse-number difference, b's pulse minus a's, from -lags to lags.

    sync, period_ps, sync_follows: see `PulseAssigner`. gate_ps: (lo, hi), keep photons with a micro-time
    modulo the period in [lo, hi). `lags` and `counts` are int64[2 * lags + 1]. Blocks may be cut anywhere;
    no pair is formed across a gap.
    """

    def __init__(
        self,
        a: int,
        b: int,
        sync: int,
        period_ps: int,
        lags: int,
        gate_ps: tuple[int, int] | None = None,
        sync_follows: bool = True,
    ) -> None:
        self._a, self._b = int(a), int(b)
        self._assigner = PulseAssigner((self._a, self._b), sync, period_ps, sync_follows)
        self._pairs = PulsePairs(lags, self._assigner.period_ps)
        if gate_ps is not None and not 0 <= gate_ps[0] < gate_ps[1] <= period_ps:
            raise ValueError(f"gate_ps {gate_ps} must satisfy 0 <= lo < hi <= period_ps ({period_ps})")
        self._gate_ps = gate_ps
        self._watermark = Watermark()
        self.singles: tuple[int, int] = (0, 0)

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def lags(self) -> NDArray[np.int64]:
        """int64[2 * lags + 1]: pulse-number differences, b minus a."""
        return self._pairs.lags

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[2 * lags + 1]: coincidences at each difference."""
        return self._pairs.counts.copy()

    @property
    def unassigned(self) -> int:
        """Photons without a sync within 1.5 periods."""
        return self._assigner.unassigned

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            if not stretch.continues:
                self._pairs.restart()
            self._add(self._assigner.assign(stretch))

    def _add(self, photons: PulsedPhotons) -> None:
        kept = self._in_gate(photons.micro_ps)
        channels = photons.channels[kept]
        on_a, on_b = channels == self._a, channels == self._b
        self._pairs.feed(photons.pulses_ps[kept], on_a, on_b)
        n_a, n_b = self.singles
        self.singles = (n_a + int(np.count_nonzero(on_a)), n_b + int(np.count_nonzero(on_b)))

    def _in_gate(self, micro_ps: NDArray[np.int64]) -> NDArray[np.bool_]:
        if self._gate_ps is None:
            return np.ones(micro_ps.shape, np.bool_)
        folded = micro_ps % self._assigner.period_ps
        return (folded >= self._gate_ps[0]) & (folded < self._gate_ps[1])


class DecayHistogram:
    """Micro-time histogram of one channel, modulo the period.

    `edges_ps` is int64[n + 1] from 0 to period_ps in steps of bin_ps (the last bin is shorter when the period
    is     not a multiple); `counts` is int64[n].
    """

    def __init__(
        self, channel: int, sync: int, bin_ps: int, period_ps: int, sync_follows: bool = True
    ) -> None:
        self._assigner = PulseAssigner((int(channel),), sync, period_ps, sync_follows)
        self._bin_ps = whole_ps("bin_ps", bin_ps)
        edges = np.arange(0, self._assigner.period_ps, self._bin_ps, dtype=np.int64)
        self.edges_ps: NDArray[np.int64] = np.append(edges, np.int64(self._assigner.period_ps))
        self.counts: NDArray[np.int64] = np.zeros(edges.size, np.int64)
        self._watermark = Watermark()

    @property
    def live_time_ps(self) -> int:
        """Time seen so far without gaps, in ps."""
        return self._watermark.live_time_ps

    @property
    def unassigned(self) -> int:
        """Photons without a sync within 1.5 periods."""
        return self._assigner.unassigned

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError when it overlaps, goes back or changes the epoch."""
        for stretch in self._watermark.accept(block):
            folded = self._assigner.assign(stretch).micro_ps % self._assigner.period_ps
            self.counts += np.bincount(folded // self._bin_ps, minlength=self.counts.size)
