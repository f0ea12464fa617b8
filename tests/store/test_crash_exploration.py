"""The short form of `make crash-test`, and that the model would notice what is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaigns.crash_exploration import explore
from tests.store.crashmodel import Disk, Given, Step, check, record


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return record(tmp_path_factory.mktemp("reference"), rows_each=3)


def test_nothing_that_was_safe_is_lost(steps: list[Step]) -> None:
    outcome = explore(steps, cuts=40, losses=30, seed=1)
    assert outcome.failures == []


def test_the_log_is_the_run(steps: list[Step], tmp_path: Path) -> None:
    disk = Disk()
    for step in steps:
        disk.apply(step)
    disk.put(tmp_path)
    assert disk.acknowledged == disk.durable == Given(27, 9, 27)
    check(tmp_path, disk.durable)
    assert {step.call for step in steps} >= {"rename", "link", "remove", "sync", "sync_folder", "cut"}


def test_a_loss_is_noticed(steps: list[Step], tmp_path: Path) -> None:
    disk = Disk()
    for step in steps[: len(steps) // 3]:
        disk.apply(step)
    disk.put(tmp_path)
    assert disk.acknowledged is not None
    with pytest.raises(AssertionError, match=r"rows: .* were safe"):
        check(tmp_path, Given(disk.acknowledged.rows + 3, 0, 0))


def test_a_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    disk = Disk()
    for step in (
        Step("create", (1, "a")),
        Step("write", (1, 0, b"safe")),
        Step("sync", (1,)),
        Step("sync_folder", ()),
        Step("write", (1, 4, b"not")),
        Step("create", (2, "b")),
    ):
        disk.apply(step)
    found = set()
    for seed in range(30):
        folder = tmp_path / str(seed)
        folder.mkdir()
        disk.put_after_power_cut(folder, random.Random(seed))
        content = (folder / "a").read_bytes()
        assert content.startswith(b"safe")
        found.add((content, (folder / "b").exists()))
    assert {(b"safe", False), (b"safenot", True)} <= found
