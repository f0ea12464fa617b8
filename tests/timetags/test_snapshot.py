"""Snapshots while another thread ingests: consistent, immutable, and no wait for the ingest."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from labctl.timetags import Correlation, TagBlock
from labctl.timetags.snapshot import Handover

N_BLOCKS, PER_BLOCK = 300, 2_000


def blocks():
    # every block is alike: after k of them all pairs are k times those of one
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 900_000, PER_BLOCK))
    channels = rng.integers(1, 3, PER_BLOCK).astype(np.int32)
    for k in range(N_BLOCKS):
        begin = k * 1_000_000
        yield TagBlock(times + begin, channels, begin, begin + 1_000_000)


def test_snapshots_show_whole_blocks_only():
    correlation = Correlation((1, 2), 50_000, 1_000)
    done = threading.Event()

    def ingest():
        for block in blocks():
            correlation.update(block)
        done.set()

    ingesting = threading.Thread(target=ingest)
    ingesting.start()
    seen = []
    while not done.is_set():
        seen.append(correlation.snapshot())
    ingesting.join()
    seen.append(correlation.snapshot())
    single = seen[-1].pairs.cells // N_BLOCKS
    for snapshot in seen:
        n, rest = divmod(snapshot.live_time_ps, 1_000_000)
        assert rest == 0
        np.testing.assert_array_equal(snapshot.pairs.cells, n * single)
        assert sum(snapshot.singles.values()) == n * PER_BLOCK
    assert seen[-1].live_time_ps == N_BLOCKS * 1_000_000


def test_a_snapshot_does_not_change():
    correlation = Correlation((1, 2), 50_000, 1_000)
    first, second, *_ = blocks()
    correlation.update(first)
    before = correlation.snapshot()
    counts = before.counts(1, 2)
    correlation.update(second)
    np.testing.assert_array_equal(before.counts(1, 2), counts)
    assert correlation.counts(1, 2).sum() > counts.sum()
    with pytest.raises(ValueError, match="read-only"):
        before.pairs.cells[0] = 0
    counts[:] = 0  # an array once handed out belongs to the caller
    assert before.counts(1, 2).any()


def test_a_request_during_a_change_is_answered_at_its_end():
    state = [0]
    handover = Handover(lambda: state[0])
    answers = []
    asking = threading.Thread(target=lambda: answers.append(handover.take()))
    with handover.changing():
        state[0] = 1
        asking.start()
        while not handover._requests:
            pass
        assert not answers
        state[0] = 2
    asking.join()
    assert answers == [2]


def test_a_failed_change_leaves_the_state_readable():
    handover = Handover(lambda: 5)
    with pytest.raises(RuntimeError), handover.changing():
        raise RuntimeError("broken")
    assert handover.take() == 5
