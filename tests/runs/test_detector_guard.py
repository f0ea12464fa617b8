"""The detector guard: too bright in one block is enough, lost tags too, and darkness releases it."""

import numpy as np
import pytest

from labctl.runs.detector_guard import DetectorGuard
from labctl.timetags import Gap, TagBlock

MS = 10**9


def block(counts, gaps=(), length_ms=50):
    """A block of `length_ms` with `counts` tags by channel, spread over it."""
    length = length_ms * MS
    times = [np.linspace(0, length - 1, n).astype(np.int64) for n in counts.values()]
    times, channels = np.concatenate([*times, []]).astype(np.int64), np.repeat([*counts], [*counts.values()])
    order = np.argsort(times, kind="stable")
    return TagBlock(times[order], channels[order], 0, length, tuple(gaps))


@pytest.fixture
def guard():
    return DetectorGuard([1, 2], max_rate_hz=1e6, resume_below_hz=0.5e6)


def test_trips_within_the_block_that_is_too_bright(guard):
    assert not guard.update(block({1: 50_000, 2: 10}))
    assert guard.update(block({1: 10, 2: 51_000}))
    assert "channel 2 counts 1.02e+06 Hz, above the limit of 1e+06 Hz" in guard.reason


def test_already_too_bright_in_the_first_block(guard):
    assert guard.update(block({1: 60_000}))


def test_other_channels_do_not_matter(guard):
    assert not guard.update(block({1: 10, 3: 200_000}))


def test_each_channel_has_the_limit_for_itself(guard):
    assert not guard.update(block({1: 40_000, 2: 40_000}))


def test_a_few_tags_in_a_short_block_are_chance(guard):
    short = TagBlock(np.arange(3), np.ones(3), 0, 10**6)  # 3 tags in 1 us
    assert not guard.update(short)


def test_released_only_below_the_lower_rate_and_trips_again(guard):
    rates = [60_000, 30_000, 25_000, 24_999, 30_000, 60_000]
    assert [guard.update(block({1: n})) for n in rates] == [True, True, True, False, False, True]


@pytest.mark.parametrize("missed", [{}, {2: 5}, {7: 1, 1: 1}])
def test_lost_tags_count_as_too_bright(guard, missed):
    assert guard.update(block({1: 10}, [Gap(MS, 3 * MS, missed)]))
    assert guard.reason == "the tagger lost tags for 2 ms"
    assert guard.update(block({1: 10}, [Gap(MS, 3 * MS, missed)]))
    assert not guard.update(block({1: 10}))


def test_lost_tags_of_other_channels_do_not_matter(guard):
    assert not guard.update(block({1: 10}, [Gap(MS, 3 * MS, {7: 100, 1: 0})]))


def test_a_rate_is_taken_over_the_live_time(guard):
    lost = Gap(0, 25 * MS, {7: 1})
    tags = block({1: 60_000})
    later = tags.times_ps >= 25 * MS
    assert guard.update(TagBlock(tags.times_ps[later], tags.channels[later], 0, 50 * MS, (lost,)))


def test_an_empty_block_says_nothing(guard):
    empty = TagBlock(np.array([]), np.array([]), 5, 5)
    assert not guard.update(empty)
    guard.update(block({1: 60_000}))
    assert guard.update(empty)


def test_limits_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="must be below"):
        DetectorGuard([1], 1e6, 2e6)
