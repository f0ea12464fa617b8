"""Who dies with a process, and who does not."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from labctl.bench.ending import Family, await_death
from tests.bench.conftest import DEADLINE_S, eventually, gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PARENT = """
import subprocess, sys, time
def child(**options):
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)
    return process.pid, process.stdout.readline().strip()
print(*child(), *child(start_new_session=True), flush=True)
time.sleep(600)
"""


class Tree:
    """A parent with a child and a grandchild, and another child that has detached itself, with its own."""

    def __init__(self, leads: bool) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=leads
        )
        assert self.parent.stdout is not None
        child, grandchild, *self.detached = map(int, self.parent.stdout.readline().split())
        self.children = [child, grandchild]

    def clear(self) -> None:
        with self.parent:
            self.parent.kill()
        subprocess.run(["kill", "-9", *map(str, self.children + self.detached)], stderr=subprocess.DEVNULL)


@pytest.fixture
def plant() -> Iterator[Callable[[bool], Tree]]:
    trees: list[Tree] = []

    def make(leads: bool) -> Tree:
        trees.append(Tree(leads))
        return trees[-1]

    yield make
    for tree in trees:
        tree.clear()


@pytest.mark.parametrize("leads", [True, False])
def test_ending_a_process_ends_its_family(plant: Callable[[bool], Tree], leads: bool) -> None:
    tree = plant(leads)
    Family(tree.parent.pid).end()
    assert tree.parent.wait(DEADLINE_S) == -9
    eventually(lambda: all(map(gone, tree.children)), "the end of the children")
    assert not any(map(gone, tree.detached))


@pytest.mark.parametrize("leads", [True, False])
def test_after_a_death_the_rest_is_ended(plant: Callable[[bool], Tree], leads: bool) -> None:
    tree = plant(leads)
    family = Family(tree.parent.pid)
    family.look()
    tree.parent.kill()
    tree.parent.wait(DEADLINE_S)
    assert not any(map(gone, tree.children))
    family.look()  # the dead do not tell their children, and what was known is not forgotten
    family.end_rest()
    eventually(lambda: all(map(gone, tree.children)), "the end of the children")
    assert not any(map(gone, tree.detached))


def test_a_death_is_awaited(plant: Callable[[bool], Tree]) -> None:
    tree = plant(False)
    waiting = threading.Thread(target=await_death, args=(tree.parent.pid,))
    waiting.start()
    assert waiting.is_alive()
    tree.parent.kill()
    waiting.join(DEADLINE_S)
    assert not waiting.is_alive()


def test_the_dead_are_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    await_death(process.pid)
    Family(process.pid).end()
