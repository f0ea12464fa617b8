"""Pulse-number correlation and decays against their definition, photon by photon."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import DecayHistogram, Gap, PulsedCorrelation, TagBlock
from tests.timetags.streams import chunked

PERIOD = 12


def assigned(whole, channels, follows):
    """[(channel, pulse time, micro-time)] of all photons that have a sync within 1.5 periods."""
    syncs = [int(t) for t in whole.times_ps[whole.channels == 3]]
    found = []
    for t, channel in zip(whole.times_ps.tolist(), whole.channels.tolist(), strict=True):
        if channel not in channels:
            continue
        candidates = [s for s in syncs if (s > t if follows else s <= t)]
        if not candidates:
            continue
        sync = min(candidates) if follows else max(candidates)
        if abs(sync - t) <= 1.5 * PERIOD:
            pulse = sync - PERIOD if follows else sync
            found.append((channel, pulse, t - pulse))
    return found


def pairs_by_definition(photons, a, b, lags):
    counts = np.zeros(2 * lags + 1, np.int64)
    for i, (first, pulse_a, _) in enumerate(photons):
        for j, (second, pulse_b, _) in enumerate(photons):
            if i == j or first != a or second != b:
                continue
            distance = pulse_b - pulse_a
            difference = int(np.sign(distance)) * int(np.floor(abs(distance) / PERIOD + 0.5))
            if abs(difference) <= lags:
                counts[lags + difference] += 1
    return counts


@given(chunked(max_size=50), st.booleans(), st.sampled_from([(1, 2), (2, 1), (1, 1)]), st.integers(0, 4))
def test_equals_the_definition_however_cut(streams, follows, pair, lags):
    whole, blocks = streams
    pulsed = PulsedCorrelation(*pair, 3, PERIOD, lags, sync_follows=follows)
    for block in blocks:
        pulsed.update(block)
    photons = assigned(whole, pair, follows)
    np.testing.assert_array_equal(pulsed.counts, pairs_by_definition(photons, *pair, lags))
    assert pulsed.singles == tuple(sum(p[0] == c for p in photons) for c in pair)
    assert pulsed.lags.tolist() == list(range(-lags, lags + 1))


@given(chunked(max_size=50), st.booleans(), st.sampled_from([(0, 12), (3, 7), (0, 1)]))
def test_gate_and_decay_share_the_micro_time_axis(streams, follows, gate):
    whole, blocks = streams
    decay = DecayHistogram(1, 3, 1, PERIOD, sync_follows=follows)
    pulsed = PulsedCorrelation(1, 2, 3, PERIOD, 2, gate_ps=gate, sync_follows=follows)
    for block in blocks:
        decay.update(block)
        pulsed.update(block)
    micro = [p[2] % PERIOD for p in assigned(whole, (1,), follows)]
    np.testing.assert_array_equal(decay.counts, np.bincount(micro, minlength=PERIOD))
    assert pulsed.singles[0] == decay.counts[gate[0] : gate[1]].sum()


def test_conditional_filter_keeps_only_the_syncs_after_photons():
    # pulses every 400 ns; A in pulse 10 (5 ns after it), B in pulse 12; syncs of pulses 11 and 13 pass the
    # filter
    times = np.array([4_005_000, 4_400_000, 4_812_000, 5_200_010])
    channels = np.array([1, 3, 2, 3], np.int32)
    block = TagBlock(times, channels, 4_000_000, 6_000_000)
    ab, ba = PulsedCorrelation(1, 2, 3, 400_000, 3), PulsedCorrelation(2, 1, 3, 400_000, 3)
    decay = DecayHistogram(1, 3, 1_000, 400_000)
    for accumulator in (ab, ba, decay):
        accumulator.update(block)
    assert ab.counts.tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert ba.counts.tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert decay.counts[5] == 1 == decay.counts.sum()
    assert decay.edges_ps[-1] == 400_000


def test_a_photon_whose_sync_a_gap_took_is_not_assigned():
    block = TagBlock(np.array([100, 250, 300]), np.array([1, 1, 3], np.int32), 0, 400, gaps=(Gap(150, 200),))
    pulsed = PulsedCorrelation(1, 1, 3, 400, 3)
    pulsed.update(block)
    assert pulsed.singles == (1, 1) and pulsed.unassigned == 1


def test_a_photon_far_from_any_sync_is_not_assigned_and_not_kept():
    pulsed = PulsedCorrelation(1, 2, 3, 100, 3)
    pulsed.update(TagBlock(np.array([10, 900]), np.array([1, 1], np.int32), 0, 1_000))
    assert pulsed.unassigned == 1
    pulsed.update(TagBlock(np.array([1_000]), np.array([3], np.int32), 1_000, 1_100))
    assert pulsed.singles == (1, 0) and pulsed.unassigned == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"period_ps": 0}, "period_ps"),
        ({"lags": -1}, "lags"),
        ({"sync": 1}, "both sync and photon"),
        ({"gate_ps": (5, 5)}, "gate_ps"),
    ],
)
def test_refuses_bad_settings(options, match):
    settings = {"a": 1, "b": 2, "sync": 3, "period_ps": 100, "lags": 2} | options
    with pytest.raises(ValueError, match=match):
        PulsedCorrelation(**settings)


def test_decay_bins_end_with_the_period():
    decay = DecayHistogram(1, 3, 30, 100)
    assert decay.edges_ps.tolist() == [0, 30, 60, 90, 100]
