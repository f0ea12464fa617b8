"""World time is what was asked for, to the picosecond, and looking at the bench changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from drivers.rotators.sim.thorlabs_ell14 import ASSUMED
from labctl.bench.bench import Bench, TwinOptions, open_bench
from labctl.bench.twin_client import PS_PER_S, TwinClient
from tests.system.conftest import BENCH

PULSES_PER_TURN = 0x23000
CHANNELS = [1, 2, 4]
ANGLES_DEG = (57.0, 12.0, 30.25)


def twin_of(bench: Bench) -> TwinClient:
    assert bench.twin is not None
    return bench.twin.client


def true_angle_deg(bench: Bench) -> float:
    return float(twin_of(bench).truth()["devices"]["vis_rotator"]["angle_deg"])


def move_ps(from_deg: float, to_deg: float) -> int:
    """Duration of a move in ps, from where the mount really stands to the pulse next to its target."""
    pulses = abs(round(to_deg * PULSES_PER_TURN / 360) - round(from_deg * PULSES_PER_TURN / 360))
    distance_deg = pulses * 360 / PULSES_PER_TURN
    return round((ASSUMED["start_s"] + distance_deg / ASSUMED["speed_deg_per_s"]) * PS_PER_S)


@contextmanager
def readers(*read: Callable[[], object]) -> Iterator[list[int]]:
    """Threads that call each function over and over, once at least; yields how often each one answered."""
    over = threading.Event()
    answered = [0] * len(read)

    def hammer(number: int) -> None:
        while True:
            read[number]()
            answered[number] += 1
            if over.is_set():
                return

    with ThreadPoolExecutor(len(read) or 1) as pool:
        try:
            threads = [pool.submit(hammer, number) for number in range(len(read))]
            yield answered
        finally:
            over.set()
        for thread in threads:
            thread.result()


def bystanders(bench: Bench) -> list[Callable[[], object]]:
    """Readings of instruments that have nothing to do with a move of the rotator or with the tagger."""
    meter, generator, laser = bench.power_meter, bench.delay_generator, bench.cw_laser
    mount = bench.mir_rotator
    return [meter.power, meter.wavelength, generator.burst_count, laser.power, laser.state, mount.angle]


def move_and_count(bench: Bench) -> tuple[int, int]:
    """Moves, sleeps and acquisitions: the world time that passed, and the time that was asked for, in ps."""
    begin_ps, asked_ps = twin_of(bench).time_ps(), 0
    for angle_deg in ANGLES_DEG:
        asked_ps += move_ps(true_angle_deg(bench), angle_deg)
        bench.vis_rotator.angle(angle_deg)
        bench.clock.sleep(0.123456789012)
        asked_ps += 123_456_789_012
        for block in bench.tagger.stream(CHANNELS, 0.3, 0.1):
            asked_ps += block.duration_ps
    return twin_of(bench).time_ps() - begin_ps, asked_ps


def test_time_is_the_sum_of_what_was_asked_for() -> None:
    found = []
    for _ in range(2):
        with open_bench(BENCH, TwinOptions(seed=3)) as bench:
            with readers(*bystanders(bench)) as answered:
                passed_ps, asked_ps = move_and_count(bench)
            found.append((passed_ps, twin_of(bench).time_ps(), true_angle_deg(bench)))
        assert passed_ps == asked_ps
        assert min(answered) > 0
    assert found[0] == found[1]


def test_the_mount_is_at_its_angle_when_its_move_is_over_and_not_before() -> None:
    with open_bench(BENCH, TwinOptions(seed=3)) as bench, ThreadPoolExecutor(1) as pool:
        client, seen = twin_of(bench), []
        due_ps = client.time_ps() + move_ps(true_angle_deg(bench), 57.0)
        start_deg = true_angle_deg(bench)
        move = pool.submit(bench.vis_rotator.angle, 57.0)
        while not move.done():
            truth = client.truth()
            seen.append((truth["time_ps"], truth["devices"]["vis_rotator"]["angle_deg"]))
        assert client.time_ps() == due_ps
        landed_deg = true_angle_deg(bench)
    assert abs(landed_deg - 57.0) <= 5 * 360 / PULSES_PER_TURN  # it stops up to five pulses beside its target
    assert all(angle_deg == (start_deg if time_ps < due_ps else landed_deg) for time_ps, angle_deg in seen)


def tags_of(slice_s: float, watched: bool) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Times and channels of two seconds of pulsed excitation with MIR pulses."""
    with open_bench(BENCH, TwinOptions(seed=4)) as bench:
        bench.diode.synchronised(True)
        bench.excitation.mean_excitons(0.1)
        bench.mir_field.field(5e8)
        bench.diode.enabled(True)
        bench.mir_gate.open(True)
        with readers(*(bystanders(bench) if watched else [])):
            blocks = list(bench.tagger.stream(CHANNELS, 2.0, slice_s))
    return np.concatenate([b.times_ps for b in blocks]), np.concatenate([b.channels for b in blocks])


def test_neither_slicing_nor_watching_changes_a_tag() -> None:
    times_ps, channels = tags_of(1.0, watched=False)
    assert times_ps.size > 20_000 and set(channels.tolist()) == set(CHANNELS)
    for slice_s, watched in ((0.1, False), (0.037, False), (0.1, True)):
        other_times_ps, other_channels = tags_of(slice_s, watched)
        np.testing.assert_array_equal(other_times_ps, times_ps)
        np.testing.assert_array_equal(other_channels, channels)
