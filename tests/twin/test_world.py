"""The world as a whole: knobs, invariance under slicing and reading, what shutters take away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.twin.config import WorldConfig
from labctl.twin.world import PulseTrain, World, WorldError
from tests.twin.world_kit import FAST, MS, S, burst, mir_deg, pulsed_world, vis_deg

ALL = (1, 2, 3, 4, 5, -5)
LOCKED = burst(30_000, 2495)
# (time in ps, knobs): a day on the bench
HISTORY: list[tuple[int, dict[str, Any]]] = [
    (0, {"diode_train": LOCKED, "diode_gate_v": 2.0, "vis_waveplate_deg": vis_deg(0.3)}),
    (200 * MS + 17, {"mir_gate_v": 2.0, "mir_waveplate_deg": mir_deg(10.0)}),
    (300 * MS + 123_456, {"diode_train": burst(300, 2495)}),
    (400 * MS + 5_137_000, {"mir_blocked": True}),
    (500 * MS, {"diode_gate_v": 0.0}),
    (510 * MS + 3, {"cw_power_w": 5e-4, "vis_waveplate_deg": vis_deg(0.2)}),
    (600 * MS + 1, {"mir_blocked": False}),
    (700 * MS, {"cw_power_w": 0.0, "mir_gate_v": 0.0}),
    (701 * MS, {"diode_gate_v": 2.0, "diode_train": FAST}),
]
END = 800 * MS


def live(seed: int, filtered: bool, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All tags of the history; with `rng` in random slices, with random takes and idle questions."""
    world = World(WorldConfig(), seed)
    if filtered:
        world.tags.set_conditional_filter((1, 2), (3,))
    reader = world.tags.subscribe(ALL)
    parts = []
    for (_, knobs), until in zip(HISTORY, [*(t for t, _ in HISTORY[1:]), END], strict=True):
        world.set(**knobs)
        while rng is not None and world.now_ps < until:
            world.advance_to(min(until, world.now_ps + int(10 ** rng.uniform(2, 11))))
            world.set(**knobs)
            world.vis_power_at_meter_w()
            world.truth()
            world.rng("somebody", world.now_ps).random()
            if rng.random() < 0.3:
                parts.append(reader.take())
            if rng.random() < 0.1:
                world.tags.subscribe((1, 3)).close()
        world.advance_to(until)
    parts.append(reader.take())
    assert [p[2] for p in parts[1:]] == [p[3] for p in parts[:-1]]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_slicing_and_reading_change_nothing(seed: int, filtered: bool) -> None:
    times, channels = live(seed, filtered)
    again, same = live(seed, filtered, np.random.default_rng(seed))
    assert np.array_equal(times, again)
    assert np.array_equal(channels, same)
    assert set(channels.tolist()) == set(ALL)
    assert np.all(np.diff(times) >= 0)


def test_filter_passes_the_first_sync_after_each_photon() -> None:
    times, channels = live(3, False)
    filtered_times, filtered_channels = live(3, True)
    syncs = times[channels == 3]
    photons = times[np.isin(channels, (1, 2))]
    following = np.searchsorted(syncs, photons, side="right")
    expected = syncs[np.unique(following[following < syncs.size])]
    assert np.array_equal(filtered_times[filtered_channels == 3], expected)
    assert np.array_equal(filtered_times[filtered_channels != 3], times[channels != 3])


def test_another_seed_is_another_world() -> None:
    assert not np.array_equal(live(1, True)[0][:50], live(2, True)[0][:50])


def test_light_that_does_not_reach_the_dot_changes_nothing() -> None:
    """Turning the MIR attenuator behind a closed shutter leaves every tag as it was."""
    quiet, busy = pulsed_world(4), pulsed_world(4)
    readers = quiet.tags.subscribe(ALL), busy.tags.subscribe(ALL)
    for k in range(1, 11):
        busy.set(mir_waveplate_deg=float(k))
        quiet.advance_to(k * 10 * MS)
        busy.advance_to(k * 10 * MS)
    assert np.array_equal(readers[0].take()[0], readers[1].take()[0])


def test_without_light_only_darks() -> None:
    world = World(WorldConfig(), 1)
    world.set(diode_train=FAST, vis_waveplate_deg=vis_deg(0.3))
    reader = world.tags.subscribe(ALL)
    world.advance_to(20 * S)
    _, channels, begin_ps, end_ps, _ = reader.take()
    assert (begin_ps, end_ps) == (0, 20 * S)
    # 4020 expected with after-pulses; 4 sigma
    assert abs(channels.size - 4020) < 256
    assert set(channels.tolist()) == {1, 2}


def test_closing_the_mir_shutter_removes_its_tags_and_its_effect() -> None:
    world = pulsed_world(5, mir_gate_v=2.0, mir_waveplate_deg=mir_deg(6.0))
    reader = world.tags.subscribe((4, 5, -5))
    world.advance_to(20 * S)
    opened, before = reader.take(), world.truth()["state"]["charged_time_s"]
    world.set(mir_gate_v=0.0)
    world.advance_to(40 * S)
    closed, after = reader.take(), world.truth()["state"]["charged_time_s"] - before
    assert np.count_nonzero(opened[1] == 4) == 20_000
    assert np.std(opened[0][opened[1] == 4] % MS) == pytest.approx(10.0, rel=0.05)
    assert np.count_nonzero(opened[1] == 5) == 1
    assert closed[1].tolist() == [-5]
    # 0.3 % against 28.6 % +- 2.7 % of 20 s
    assert before < 0.02 * 20 < 0.15 * 20 < after


def test_blocks_take_the_light_and_leave_the_gate() -> None:
    world = pulsed_world(6, mir_gate_v=2.0, mir_waveplate_deg=mir_deg(6.0))
    world.set(mir_blocked=True, vis_blocked=True)
    reader = world.tags.subscribe(ALL)
    world.advance_to(100 * MS)
    channels = reader.take()[1]
    assert np.count_nonzero(channels == 5) == 1
    assert np.count_nonzero(channels == 4) == 0
    state = world.truth()["state"]
    assert (
        state["vis_photons_at_sample_per_s"] == state["mir_field_mv_cm"] == world.vis_power_at_meter_w() == 0
    )


def test_powers_and_fields() -> None:
    world = pulsed_world(1, mean=0.3, mir_gate_v=2.0, mir_waveplate_deg=31.5)
    derived, state = world.truth()["parameters"]["derived"], world.truth()["state"]
    assert derived["mean_excitons"] == pytest.approx(0.3)
    assert derived["charging_rate_per_s"] == pytest.approx(31.577, rel=1e-4)
    assert state["mir_field_mv_cm"] == pytest.approx(12.0)
    assert world.vis_power_at_meter_w() == pytest.approx(0.05 * 2e-12 * 2.5e6 * 0.3)
    world.set(vis_waveplate_deg=12.0 + 45.0)
    assert world.vis_power_at_meter_w() == pytest.approx(0.05 * 2e-12 * 2.5e6 * 1e-4)
    world.set(diode_gate_v=0.0, cw_power_w=5e-4, vis_waveplate_deg=vis_deg(0.2))
    assert world.truth()["parameters"]["derived"]["pump_per_s"] == pytest.approx(6.3e5)
    world.set(mir_gate_v=0.5)
    assert world.truth()["state"]["mir_field_mv_cm"] == 0


def test_truth_lists_every_parameter() -> None:
    truth = World(WorldConfig(), 1).truth()
    assert truth["parameters"]["dot.tau_x_s"] == 30e-9
    assert truth["parameters"]["detection.skew_ps.3"] == -7_200
    assert truth["state"]["charge_state"] == "X"


def test_refusals() -> None:
    world = World(WorldConfig(), 1)
    with pytest.raises(WorldError, match=r"no knob 'vis_waveplate'; did you mean 'vis_waveplate_deg'\?"):
        world.set(vis_waveplate=1.0)
    with pytest.raises(WorldError, match="cannot be nan"):
        world.set(mir_waveplate_deg=float("nan"))
    with pytest.raises(WorldError, match="takes true or false"):
        world.set(mir_blocked=1)
    with pytest.raises(WorldError, match="a finite number"):
        world.set(cw_power_w="0.1")
    with pytest.raises(WorldError, match="PulseTrain or None"):
        world.set(diode_train=400)
    with pytest.raises(WorldError, match="count"):
        PulseTrain(400_000, None, 0, "mir_trigger")
    world.set(cw_power_w=1e-4, diode_train=FAST, diode_gate_v=2.0)
    with pytest.raises(WorldError, match="switch one off"):
        world.advance_to(1)
    world.set(cw_power_w=0.0, diode_train=PulseTrain(50_000))
    with pytest.raises(WorldError, match="too fast"):
        world.advance_to(1)
    world.set(diode_train=PulseTrain(400_000, 2600, 0, "mir_trigger"))
    with pytest.raises(WorldError, match="next trigger"):
        world.advance_to(1)
    world.set(diode_gate_v=0.0)
    world.advance_to(1)
    assert world.now_ps == 1
    world.advance_to(0)
    assert world.now_ps == 1


def test_skews_of_the_channels() -> None:
    """Light rises 7.2 ns (A) and 8.5 ns (B) after the sync: the skews of detector and sync channel."""
    world = pulsed_world(8)
    reader = world.tags.subscribe((1, 2, 3))
    world.advance_to(4 * S)
    times, channels, *_ = reader.take()
    syncs = times[channels == 3]
    for channel, rise_ps in ((1, 7_200), (2, 8_500)):
        photons = times[channels == channel]
        photons = photons[photons > syncs[0]]
        delays = photons - syncs[np.searchsorted(syncs, photons) - 1]
        counts, edges = np.histogram(delays, np.arange(0, 20_000, 250))
        half = edges[np.argmax(counts > counts.max() / 2)]
        assert half == pytest.approx(rise_ps, abs=300)


def test_a_finite_train_ends() -> None:
    world = pulsed_world(1, train=PulseTrain(1_000_000, 100, start_ps=5 * MS))
    reader = world.tags.subscribe((3,))
    world.advance_to(20 * MS)
    times = reader.take()[0]
    assert times.size == 100
    nominal = 5 * MS + 31_400 + 20_000 - 7_200 + 1_000_000 * np.arange(100)
    assert np.max(np.abs(times - nominal)) < 120
