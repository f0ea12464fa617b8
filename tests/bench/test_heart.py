"""Beats and promises, and how overdue one is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from labctl.bench.guardian import LONGEST_STEP_S, Overdue
from labctl.bench.heart import Heart, Kind
from labctl.bench.page import Beat, Page

INF = float("inf")


class FakeGuardian:
    """A guardian that is a page and a few notes."""

    def __init__(self) -> None:
        self.page = Page.create()
        self.lives = True
        self.told: list[tuple[str, dict[str, object]]] = []

    def running(self) -> bool:
        return self.lives

    def restart(self) -> None:
        self.page.close()
        self.page, self.lives = Page.create(), True

    def tell(self, order: str, **fields: object) -> None:
        self.told.append((order, fields))


@pytest.fixture
def guardian() -> Iterator[FakeGuardian]:
    made = FakeGuardian()
    yield made
    made.page.close()


def left_s(guardian: FakeGuardian) -> float:
    return guardian.page.read_beat().due_s - time.monotonic()


def test_at_rest_nothing_is_promised(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    assert guardian.page.read_beat().due_s == INF
    heart.beat(7.0, "waiting")
    assert 6 < left_s(guardian) <= 7 and guardian.page.read_beat().what == "waiting"
    heart.rest()
    assert guardian.page.read_beat().due_s == INF


def test_beats_are_numbered(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    heart.beat()
    first = guardian.page.read_beat().number
    heart.beat()
    assert guardian.page.read_beat().number == first + 1


def test_promises_nest_and_the_outer_waits(guardian: FakeGuardian, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    heart = Heart(guardian)
    heart.beat(1.0, "slice")
    with heart.promise("moving", 50.0, Kind.TRANSACTION):
        assert guardian.page.read_beat().due_s == 150.0
        now[0] += 0.5
        with heart.promise("asking", 3.0, Kind.TRANSACTION):
            assert guardian.page.read_beat() == Beat(4, 103.5, "asking")
            now[0] += 2.5
        assert guardian.page.read_beat() == Beat(5, 152.5, "moving")
        now[0] += 20.0
    # as much of the slice is left as there was before
    assert guardian.page.read_beat() == Beat(6, 101.0 + 23.0, "slice")


def test_a_promise_is_kept_short(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    with heart.promise("for ever", INF, Kind.WRITE):
        assert left_s(guardian) <= Kind.WRITE.longest_s
    with heart.promise("as usual", kind=Kind.COMPILE):
        assert Kind.COMPILE.default_s - 1 < left_s(guardian) <= Kind.COMPILE.default_s


def test_every_kind_has_its_own_limits() -> None:
    assert len(list(Kind)) == 7 and all(kind.default_s <= kind.longest_s for kind in Kind)


def test_a_promise_ends_with_an_error_too(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    with pytest.raises(KeyError), heart.promise("code", 3.0):
        raise KeyError
    assert guardian.page.read_beat().due_s == INF


def test_other_threads_promise_nothing(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    heart.beat(1.0)

    def promise() -> None:
        with heart.promise("elsewhere", 100.0):
            pass

    thread = threading.Thread(target=promise)
    thread.start()
    thread.join()
    assert guardian.page.read_beat().number == 2 and left_s(guardian) <= 1.0


def test_a_notice_is_told_once(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    assert heart.notice() == ""
    guardian.page.put_notice("closed mir_gate")
    assert heart.notice() == "closed mir_gate" and heart.notice() == ""
    guardian.page.put_notice("µ" * 5000)
    assert set(heart.notice()) <= {"µ", "�"}


def test_a_guardian_that_does_not_look(guardian: FakeGuardian, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    heart = Heart(guardian)
    guardian.page.tick(100.0, True)
    assert heart.guardian_alive()
    guardian.lives = False
    assert heart.guardian_alive()  # it does not look each time
    now[0] += 1.0
    assert not heart.guardian_alive()
    heart.restart_guardian()
    guardian.page.tick(now[0], True)
    assert heart.guardian_alive()
    now[0] += 60.0
    assert heart.guardian_alive()  # the whole machine may have stood still
    looks = 0
    while heart.guardian_alive():  # it runs, but does not look
        now[0] += 0.1
        looks += 1
    assert 45 <= looks <= 50
    guardian.page.tick(now[0], True)
    now[0] += 0.1
    assert heart.guardian_alive()


def test_a_restarted_guardian_knows_the_promise(guardian: FakeGuardian) -> None:
    heart = Heart(guardian)
    heart.beat(1.0, "slice")
    heart.restart_guardian()
    assert left_s(guardian) <= 1.0


def test_without_a_guardian_nobody_minds() -> None:
    heart = Heart()
    heart.beat()
    with heart.promise("anything"):
        pass
    heart.hand_over("why not")
    heart.restart_guardian()
    assert heart.guardian_alive() and heart.notice() == ""


def test_what_is_told(guardian: FakeGuardian) -> None:
    Heart(guardian).hand_over("Ctrl-C three times")
    assert guardian.told == [("take over", {"reason": "Ctrl-C three times"})]


def overdue(*looks: tuple[float, Beat]) -> list[float]:
    judge = Overdue()
    return [pytest.approx(judge.look(now_s, beat)) for now_s, beat in looks]


def test_a_kept_promise_is_not_overdue() -> None:
    beat = Beat(1, 10.0, "")
    assert overdue((9.0, beat), (9.02, beat), (10.0, beat)) == [0, 0, 0]


def test_overdue_time_adds_up_and_ends_with_the_next_beat() -> None:
    beat = Beat(1, 10.0, "")
    looks = [(9.99 + 0.02 * n, beat) for n in range(4)]
    assert overdue(*looks, (10.07, Beat(2, 11.0, ""))) == [0, 0.02, 0.04, 0.06, 0]


def test_of_a_stall_that_stops_both_little_counts() -> None:
    beat = Beat(1, 10.0, "")
    assert overdue((9.99, beat), (70.0, beat), (70.0, Beat(2, 71.0, ""))) == [0, LONGEST_STEP_S, 0]


def test_a_late_beat_that_is_late_again_starts_anew() -> None:
    first, second = Beat(1, 9.0, ""), Beat(2, 9.05, "")
    assert overdue((9.0, first), (9.05, first), (9.1, second)) == [0, 0.05, 0]
