"""A bench without instruments: virtual time, sources that remember, a tagger of regular tags, a guardian."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from labctl.bench.heart import Kind
from labctl.instruments.base import SafeReport
from labctl.runs.past import Past
from labctl.runs.run import Run
from labctl.runs.supervision import Supervisor
from labctl.store import RunWriter
from labctl.timetags import Gap, TagBlock

SLICE_S = 0.1


class Clock:
    """Bench time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.t = 0.0

    def now(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.t += max(seconds, 0.0)


class Source:
    """Something with a switch called `kind`; `log` keeps every switching of all sources.

    refuses: values at which setting raises. stuck: reads back this, whatever was set.
    """

    def __init__(
        self,
        name: str,
        log: list[tuple[str, bool]],
        kind: str = "enabled",
        refuses: tuple[bool, ...] = (),
        stuck: bool | None = None,
    ) -> None:
        self.name = name
        self.on = False
        self._log = log
        self._refuses = refuses
        self._stuck = stuck
        setattr(self, kind, self._switch)

    def _switch(self, on: bool | None = None) -> bool | None:
        if on is None:
            return self.on if self._stuck is None else self._stuck
        self._log.append((self.name, on))
        if on in self._refuses:
            raise RuntimeError(f"{self.name} refuses")
        self.on = on
        return None


class Tagger:
    """One tag per slice on the first channel; `script[n]` is called before the n-th block is handed out."""

    def __init__(self, clock: Clock, name: str = "tagger") -> None:
        self.name = name
        self.clock = clock
        self.epoch = 0
        self.origin_s = 0.0
        self.blocks = 0
        self.tags_per_block = 1
        self.gaps: tuple[Gap, ...] = ()
        self.script: dict[int, Any] = {}

    def stream(self, channels: list[int], duration_s: float, slice_s: float) -> Iterator[TagBlock]:
        left_s = duration_s
        while left_s > 1e-9:
            begin_ps = self._now_ps()
            self.clock.sleep(min(slice_s, left_s))
            left_s -= slice_s
            end_ps = self._now_ps()
            times_ps = np.full(self.tags_per_block, begin_ps)
            on_channel = np.full(self.tags_per_block, channels[0])
            self.script.get(self.blocks, lambda: None)()
            self.blocks += 1
            yield TagBlock(times_ps, on_channel, begin_ps, end_ps, self.gaps, self.epoch)

    def _now_ps(self) -> int:
        return round((self.clock.now() - self.origin_s) * 1e12)


class Heart:
    """A guardian that can die and can say that it closed the shutters."""

    def __init__(self) -> None:
        self.alive = True
        self.notices: list[str] = []
        self.promises: list[str] = []

    def beat(self, limit_s: float = 10.0, what: str = "") -> None:
        pass

    @contextmanager
    def promise(self, what: str, limit_s: float | None = None, kind: Kind = Kind.CODE) -> Iterator[None]:
        self.promises.append(what)
        yield

    def guardian_alive(self) -> bool:
        return self.alive

    def restart_guardian(self) -> None:
        self.alive = True

    def notice(self) -> str:
        return self.notices.pop() if self.notices else ""


def stub_bench(**parts: Any) -> Any:
    """A bench with a clock, a tagger and a heart; `made_safe` counts the calls of `safe`."""
    clock = Clock()
    bench = SimpleNamespace(
        clock=clock, twin=None, tagger=Tagger(clock), heart=Heart(), made_safe=0,
        config=SimpleNamespace(kept_warm={}),
    )  # fmt: skip

    def safe() -> list[SafeReport]:
        bench.made_safe += 1
        return []

    bench.safe = safe
    for name, part in parts.items():
        setattr(bench, name, part)
    return bench


def make_run(bench: Any, root: Path, **options: Any) -> tuple[Run, RunWriter]:
    """A run on the bench, with its journal under `root`; options of `Run` and `Supervisor`."""
    past: Past = options.pop("past", None) or Past()
    writer = options.pop("writer", None) or RunWriter.create(root, "test", {"default_plot": None})
    run_options = {k: options.pop(k) for k in ("seed", "extra_live_s") if k in options}
    supervisor = Supervisor(bench, writer, **options)
    supervisor.machine.to(supervisor.machine.state.RUNNING)
    run = Run(bench, writer, {"counts": ""}, supervisor, slice_s=SLICE_S, past=past, **run_options)
    return run, writer
