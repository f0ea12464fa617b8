"""Making instruments safe, so that none of them can keep the others from it.

Three stages: shutters, then emission, then the rest. Within a stage, instruments on different wires are
served at the same time and those on one wire one after the other, the last built first. Every step runs in a
thread of its own with a time limit: a driver that raises, hangs in a vendor's library, or waits for a wire
that a hung thread holds, is reported, and its thread left behind. A stage that has not ended after
its time in `PATIENCE_S` does not hold up the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from labctl.instruments.base import LabInstrument, SafeReport

LIGHT_LIMIT_S = 10.0
"""For a shutter or a source: what `LabInstrument.attempt_safe` takes at most, and some time-outs."""
REST_LIMIT_S = 20.0
"""For any other instrument, which may have to move."""
SHUTTERS, EMISSION, THE_REST = range(3)
PATIENCE_S = {SHUTTERS: 0.5, EMISSION: 0.5}
"""Wall time after which a stage does not hold up the next one any more."""
_EMITTERS = ("emission", "enabled", "output")


@dataclass(frozen=True)
class SafeStep:
    """How one instrument is made safe.

    stage: SHUTTERS, EMISSION or THE_REST. touches: what the step uses (itself, and instruments beneath it);
    steps that touch the same thing are on one wire. limit_s: wall time; None for what is usual in its stage.
    """

    instrument: str
    stage: int
    action: Callable[[], SafeReport]
    touches: frozenset[str] = field(default_factory=frozenset)
    limit_s: float | None = None

    @property
    def usual_limit_s(self) -> float:
        """`limit_s`, or what is usual in its stage."""
        usual_s = REST_LIMIT_S if self.stage == THE_REST else LIGHT_LIMIT_S
        return usual_s if self.limit_s is None else self.limit_s


def stage_of(instrument: LabInstrument) -> int:
    """The stage in which an instrument is made safe, by what it can be told to do."""
    if "open" in instrument.parameters:
        return SHUTTERS
    return EMISSION if any(name in instrument.parameters for name in _EMITTERS) else THE_REST


def beneath(name: str, uses: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """An instrument and all that it uses, directly or not."""
    return frozenset({name}).union(*(beneath(used, uses) for used in uses.get(name, ())))


def make_safe(
    instruments: Mapping[str, LabInstrument],
    limit_s: float | None = None,
    uses: Mapping[str, Iterable[str]] | None = None,
) -> list[SafeReport]:
    """Make instruments safe, given by name in the order in which they were built; never raises.

    limit_s: wall time for each of them, by default 10 s for shutters and sources and 20 s for the rest.
    uses: the instruments beneath each derived one.
    Returns a report for each, in the order in which they were begun.
    """
    return carry_out(
        [
            SafeStep(name, stage_of(instrument), instrument.safe, beneath(name, uses or {}), limit_s)
            for name, instrument in instruments.items()
        ]
    )


def carry_out(
    steps: Sequence[SafeStep], patience_s: Mapping[int, float] = PATIENCE_S
) -> list[SafeReport]:
    """Carry out steps that are given in the order of building; as `make_safe`. patience_s: by stage."""
    reports: dict[str, SafeReport] = {}
    begun: list[threading.Thread] = []
    last_first = list(reversed(steps))
    ordered = sorted(last_first, key=lambda step: step.stage)
    for stage in sorted({step.stage for step in steps}):
        chains = _by_wire([step for step in ordered if step.stage == stage])
        threads = [_start(partial(_follow, chain, reports)) for chain in chains]
        begun += threads
        _join(threads, patience_s.get(stage, 0.0))
    for thread in begun:
        thread.join()  # ends, because every step of it does
    return [reports[step.instrument] for step in ordered]


def within(limit_s: float, action: Callable[[], Any], what: str) -> Any:
    """The result of `action`, run in a thread of its own.

    Raises what it raises, and TimeoutError naming `what` after `limit_s` of wall time; the thread is then
    left behind.
    """
    results: list[Any] = []
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    _join([_start(attempt)], limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"{what} gave no answer within {limit_s:g} s")
    return results[0]


def _follow(chain: Sequence[SafeStep], reports: dict[str, SafeReport]) -> None:
    for step in chain:
        reports[step.instrument] = _attempt(step)


def _attempt(step: SafeStep) -> SafeReport:
    try:
        report: SafeReport = within(step.usual_limit_s, step.action, "it")
        return replace(report, instrument=step.instrument)
    except BaseException as error:  # a driver that breaks its promise must not keep the others from theirs
        return SafeReport(step.instrument, False, (f"safe() failed: {str(error) or type(error).__name__}",))


def _by_wire(steps: Iterable[SafeStep]) -> list[list[SafeStep]]:
    """Steps in chains, so that two steps which touch the same thing are in one chain, in the given order."""
    chains: list[tuple[set[str], list[SafeStep]]] = []
    for step in steps:
        touched = set(step.touches) | {step.instrument}
        joined = [chain for chain in chains if chain[0] & touched]
        chains = [chain for chain in chains if not chain[0] & touched]
        together = [earlier for _, chain in joined for earlier in chain]
        chains.append((touched.union(*(chain[0] for chain in joined)), [*together, step]))
    return [chain for _, chain in chains]


def _start(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, name="make-safe", daemon=True)
    thread.start()
    return thread


def _join(threads: Iterable[threading.Thread], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
