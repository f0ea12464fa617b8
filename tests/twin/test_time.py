"""World time is what was asked for, whoever looks on."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from labctl.bench.twin_client import TwinClock, TwinError
from labctl.twin.timekeeper import STEP_PS, FairLock, LeaseError, Timekeeper, TwinClosedError
from tests.twin.conftest import DEADLINE_S, Rig, eventually
from tests.twin.fake_twin import FakeWorld, S


def waiters(keeper: Timekeeper) -> int:
    return len(keeper.changed._waiters)  # type: ignore[attr-defined]


@pytest.mark.parametrize("slices", [1, 7, 400])
def test_owner_gets_exactly_the_time_it_asks_for_whoever_reads(rig: Rig, slices: int) -> None:
    owner, monitor = rig.client(), rig.client()
    owner.lease("run 1")
    over, answers = threading.Event(), []

    def hammer(look: Callable[[], object]) -> None:
        while not over.is_set():
            answers.append(look())

    wires = [rig.wire("stage"), rig.wire("other")]
    looks: list[Callable[[], object]] = [monitor.time_ps, monitor.truth, owner.time_ps]
    looks += [partial(wire.ask, "POS?") for wire in wires]
    threads = [threading.Thread(target=hammer, args=(look,)) for look in looks]
    for thread in threads:
        thread.start()
    clock = TwinClock(owner)
    for _ in range(slices):
        clock.sleep(10 / slices)
    over.set()
    for thread in threads:
        thread.join()
    assert rig.world.now_ps == slices * round(10 * S / slices)
    assert clock.now() == rig.world.now_ps / S
    assert len(answers) >= len(threads)


def test_a_move_costs_exactly_its_duration(rig: Rig) -> None:
    rig.client().lease("run 1")
    assert rig.wire().ask("MOVE 1.0") == "DONE 1.0"
    assert rig.world.now_ps == S
    assert max(rig.world.steps) <= STEP_PS


def test_moves_in_parallel_cost_as_much_as_the_longest(rig: Rig) -> None:
    stage, other = rig.wire("stage"), rig.wire("other")
    stage.write("MOVE 1.0\n")
    other.write("MOVE 1.5\n")
    assert stage.ask("POS?") == other.ask("POS?")
    rig.client().lease("run 1")
    assert stage.read() + other.read() == "DONE 1.0\nDONE 1.5\n"
    assert rig.world.now_ps == 1.5 * S


def test_moves_in_parallel_may_arrive_one_after_the_other(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(grace_s=1.0)  # far more than two writes take, for slow machines
    rig.client().lease("run 1")
    stage, other = rig.wire("stage"), rig.wire("other")
    stage.write("MOVE 0.5\n")
    other.write("MOVE 1.0\n")
    assert stage.read() + other.read() == "DONE 0.5\nDONE 1.0\n"
    assert rig.world.now_ps == S


def test_a_move_during_a_sleep_costs_nothing_more(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(grace_s=10.0)
    owner, wire = rig.client(), rig.wire()
    owner.lease("run 1")
    wire.write("MOVE 1.0\n")
    assert wire.ask("POS?") == "12.5"
    assert owner.advance(2.5) == 2.5 * S
    assert wire.read() == "DONE 1.0\n"
    assert rig.world.now_ps == 2.5 * S


def test_without_an_owner_the_world_stands_still_and_a_late_reply_waits(rig: Rig) -> None:
    wire = rig.wire()
    wire.write("MOVE 1.0\n")
    assert wire.ask("POS?") == "12.5"
    assert rig.keeper.now_ps() == 0
    assert select.select([wire.socket], [], [], 0.02)[0] == []
    rig.client().lease("run 1")
    assert wire.read() == "DONE 1.0\n"
    assert rig.world.now_ps == S


def test_a_device_hears_stop_while_its_reply_is_due_and_replies_come_in_due_order(rig: Rig) -> None:
    wire = rig.wire()
    wire.write("MOVE 2\nMOVE 1\n")
    assert wire.ask("STOP") == "STOPPED"
    rig.client().lease("run 1")
    assert wire.read() + wire.read() == "DONE 1\nDONE 2\n"


def test_late_replies_of_a_client_that_left_do_not_move_the_world(rig: Rig) -> None:
    wire = rig.wire()
    wire.write("MOVE 1000\n")
    assert wire.ask("POS?") == "12.5"
    wire.close()
    eventually(lambda: rig.stages["stage"].clients == 0)
    owner = rig.client()
    owner.lease("run 1")
    assert owner.advance(0.5) == S // 2


def test_sleep_of_another_client_waits_for_the_owner(rig: Rig) -> None:
    owner, other = rig.client(), rig.client()
    owner.lease("run 1")
    sleeper = threading.Thread(target=TwinClock(other).sleep, args=(1.0,))
    sleeper.start()
    eventually(lambda: waiters(rig.keeper) == 1)
    assert rig.keeper.now_ps() == 0
    owner.advance(0.75)
    assert sleeper.is_alive()
    owner.advance(0.25)
    sleeper.join(DEADLINE_S)
    assert not sleeper.is_alive()
    assert rig.world.now_ps == S
    assert not other.wait_until(2 * S, timeout_s=0.01)


def test_sleeping_for_no_time_returns_at_once(rig: Rig) -> None:
    clock = TwinClock(rig.client())
    clock.sleep(0.0)
    clock.sleep(-1.0)
    assert clock.now() == 0.0


def test_lease_has_one_owner_and_a_refusal_names_it(rig: Rig) -> None:
    owner, other = rig.client(), rig.client()
    owner.lease("run 4711")
    owner.lease("run 4711")
    with pytest.raises(TwinError, match="run 4711"):
        other.lease("run 4712")
    with pytest.raises(TwinError, match=r"only the owner.*run 4711"):
        other.advance(1.0)
    owner.release()
    other.lease("run 4712")
    with pytest.raises(TwinError, match="run 4712"):
        owner.advance(1.0)
    assert other.hello()["owner"] == "run 4712"


def test_lease_ends_with_its_connection(rig: Rig) -> None:
    owner = rig.client()
    owner.lease("run 1")
    owner.close()
    eventually(lambda: rig.keeper.owner is None)
    rig.client().lease("run 2")


def test_an_owner_that_dies_on_the_way_leaves_the_world_where_it_is(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(speed=1.0)
    owner = rig.client()
    owner.lease("run 1")

    def walk() -> None:
        with pytest.raises(TwinError):
            owner.advance(1000.0)

    walker = threading.Thread(target=walk)
    walker.start()
    eventually(lambda: rig.keeper.now_ps() > 0)
    owner.close()
    walker.join(DEADLINE_S)
    eventually(lambda: rig.keeper.owner is None)
    assert rig.keeper.now_ps() < 1000 * S


def test_a_waiting_reader_is_served_between_two_steps() -> None:
    keeper: Timekeeper
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(keeper.now_ps()))

    class WatchedWorld(FakeWorld):
        def advance_to(self, t_ps: int) -> None:
            super().advance_to(t_ps)
            if len(self.steps) == 1:
                reader.start()
                eventually(lambda: keeper.lock.waiting() == 1)

    keeper = Timekeeper(WatchedWorld())
    keeper.take("me", "run 1")
    assert keeper.advance("me", 100 * S) == 100 * S
    reader.join()
    assert seen == [STEP_PS]


def test_fair_lock_refuses_to_deadlock() -> None:
    lock = FairLock()
    with lock:
        assert not lock.acquire(blocking=False)
        with pytest.raises(RuntimeError, match="already"):
            lock.acquire()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()


def test_time_never_goes_back_and_ends_with_the_twin() -> None:
    keeper = Timekeeper(FakeWorld())
    keeper.take("me", "run 1")
    with pytest.raises(ValueError, match="never goes back"):
        keeper.advance("me", -1)
    keeper.close()
    with pytest.raises(TwinClosedError):
        keeper.advance("me", 1)
    with pytest.raises(LeaseError, match="run 1"):
        keeper.take("you", "run 2")


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_speed_must_make_sense(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Timekeeper(FakeWorld(), speed)


def test_a_paced_world_is_not_faster_than_its_speed(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(speed=10.0)
    owner = rig.client()
    owner.lease("run 1")
    start = time.monotonic()
    assert owner.advance(1.0) == S
    assert time.monotonic() - start >= 0.1
    assert rig.wire().ask("MOVE 1.0") == "DONE 1.0"
    assert rig.world.now_ps == 2 * S
    assert time.monotonic() - start >= 0.19


def test_a_free_running_world_yields_to_an_owner_and_goes_on_after_it(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(speed=50.0)
    rig.keeper.start_pacer()
    assert rig.keeper.wait_until(S, DEADLINE_S)
    owner = rig.client()
    owner.lease("run 1")
    begin_ps = owner.time_ps()
    assert not rig.keeper.wait_until(begin_ps + 1, timeout_s=0.06)
    assert owner.advance(2.0) == begin_ps + 2 * S
    owner.release()
    assert rig.wire().ask("MOVE 1.0") == "DONE 1.0"
    assert rig.keeper.wait_until(begin_ps + 3 * S, DEADLINE_S)


class StuckWorld(FakeWorld):
    stuck = True

    def advance_to(self, t_ps: int) -> None:
        if self.stuck:
            raise ArithmeticError("two lasers at once")
        super().advance_to(t_ps)


def test_a_free_running_world_that_gets_stuck_goes_on_when_it_can(caplog: pytest.LogCaptureFixture) -> None:
    world = StuckWorld()
    keeper = Timekeeper(world, speed=100.0)
    keeper.start_pacer()
    eventually(lambda: "two lasers at once" in caplog.text)
    world.stuck = False
    assert keeper.wait_until(1, DEADLINE_S)
    keeper.close()


def test_an_owner_is_told_why_the_world_is_stuck_and_a_late_reply_waits(
    make_rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    world = StuckWorld()
    rig = make_rig(world=world)
    owner, wire = rig.client(), rig.wire()
    owner.lease("run 1")
    wire.write("MOVE 1\n")
    assert wire.ask("POS?") == "12.5"
    with pytest.raises(TwinError, match="op advance: two lasers at once"):
        owner.advance(1.0)
    eventually(lambda: "the world stands still" in caplog.text)
    world.stuck = False
    assert wire.read() == "DONE 1\n"
