"""The tagger's inputs: delays, dead time, bounded buffers, losses."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.twin.tags import Lost
from labctl.twin.world import World, WorldError
from tests.twin.world_kit import MS, config, pulsed_world

END = 400 * MS


def tags(
    world: World, channels: tuple[int, ...] = (1, 2, 3), step_ps: int = 13 * MS
) -> tuple[np.ndarray, np.ndarray]:
    reader = world.tags.subscribe(channels)
    while world.now_ps < END:
        world.advance_to(min(END, world.now_ps + step_ps))
    times, numbers, _, end_ps, _ = reader.take()
    assert end_ps == world.tags.watermark_ps
    assert times.size == 0 or times[-1] < end_ps
    return times, numbers


@pytest.mark.parametrize("delay_ps", [250_000, -250_000])
def test_delay_shifts_one_channel(delay_ps: int) -> None:
    plain, shifted = pulsed_world(1), pulsed_world(1)
    shifted.tags.set_delay(2, delay_ps)
    times, numbers = tags(plain)
    moved, moved_numbers = tags(shifted)
    assert np.all(np.diff(moved) >= 0)
    assert shifted.tags.watermark_ps == END + min(delay_ps, 0)
    for channel, delay in ((1, 0), (2, delay_ps), (3, 0)):
        expected = times[numbers == channel] + delay
        got = moved[moved_numbers == channel]
        assert np.array_equal(got, expected[(expected >= 0) & (expected < shifted.tags.watermark_ps)])


def test_delayed_sync_and_filter_work_together() -> None:
    plain, filtered = pulsed_world(2), pulsed_world(2)
    for world in (plain, filtered):
        world.tags.set_delay(3, -60_000)
        world.tags.set_delay(1, 5_000)
    filtered.tags.set_conditional_filter((1,), (3,))
    times, numbers = tags(plain)
    syncs, photons = times[numbers == 3], times[numbers == 1]
    following = np.searchsorted(syncs, photons, side="right")
    got_times, got_numbers = tags(filtered, step_ps=END)
    assert np.array_equal(got_times[got_numbers == 3], syncs[np.unique(following[following < syncs.size])])


def test_dead_time_of_an_input() -> None:
    plain, dead = pulsed_world(3, mean=1.0), pulsed_world(3, mean=1.0)
    dead.tags.set_dead_time(1, 10_000_000)
    dead.tags.set_dead_time(3, 500_000)
    times, numbers = tags(plain)
    left, left_numbers = tags(dead)
    assert np.array_equal(times[numbers == 2], left[left_numbers == 2])
    expected, last = [], -(10**18)
    for time_ps in times[numbers == 1].tolist():
        if time_ps - last >= 10_000_000:
            expected.append(last := time_ps)
    assert left[left_numbers == 1].tolist() == expected
    assert np.count_nonzero(left_numbers == 3) == pytest.approx(np.count_nonzero(numbers == 3) / 2, abs=1)


def test_losses_are_counted() -> None:
    plain, lossy = pulsed_world(4), pulsed_world(4)
    lossy.tags.lose(100 * MS, 150 * MS)
    lossy.tags.lose(150 * MS, 170 * MS)
    times, numbers = tags(plain, (1, 2))
    reader = lossy.tags.subscribe((1, 2))
    lossy.advance_to(120 * MS)
    first = reader.take()
    (first_gap,) = first.gaps
    assert (first_gap.begin_ps, first_gap.end_ps) == (100 * MS, 120 * MS)
    lossy.advance_to(130 * MS)
    lossy.advance_to(END)
    second = reader.take()
    lost = (times >= 100 * MS) & (times < 170 * MS)
    assert np.array_equal(np.concatenate((first[0], second[0])), times[~lost])
    (gap,) = second.gaps
    assert (gap.begin_ps, gap.end_ps) == (120 * MS, 170 * MS)
    for channel in (1, 2):
        missed = first_gap.missed[channel] + gap.missed[channel]
        assert missed == np.count_nonzero(numbers[lost] == channel)
    lossy.advance_to(END + MS)
    assert reader.take().gaps == ()
    with pytest.raises(WorldError, match="earlier ones are out"):
        lossy.tags.lose(0, MS)


def test_a_full_buffer_reports_the_gap() -> None:
    full = World(config(detection={"buffer_tags": 1000}), 4)
    source = pulsed_world(4)
    full.set(**vars(source.knobs))
    times, _ = tags(source, (1, 2))
    reader = full.tags.subscribe((1, 2))
    for k in range(1, 11):
        full.advance_to(k * END // 10)
    held = reader.take()
    assert np.array_equal(held.times_ps, times[:1000])
    assert held.gaps == (Lost(int(times[1000]), END, held.gaps[0].missed),)
    assert sum(held.gaps[0].missed.values()) == times.size - 1000
    full.advance_to(END + MS)
    assert reader.take()[2:] == (END, END + MS, ())


def test_a_closed_subscription_gets_nothing_more() -> None:
    world = pulsed_world(5)
    reader = world.tags.subscribe((1,))
    world.advance_to(MS)
    reader.close()
    world.advance_to(100 * MS)
    assert reader.take()[3] == MS


def test_refusals() -> None:
    buffer = pulsed_world(6).tags
    with pytest.raises(WorldError, match="no channel 9"):
        buffer.subscribe((1, 9))
    with pytest.raises(WorldError, match="only channel 3"):
        buffer.set_conditional_filter((1,), (4,))
    with pytest.raises(WorldError, match="both trigger and filtered"):
        buffer.set_conditional_filter((1,), ())
    with pytest.raises(WorldError, match="negative"):
        buffer.set_dead_time(1, -1)
    buffer.set_conditional_filter((1, 2), (3,))
    assert buffer.conditional_filter == ((1, 2), (3,))
