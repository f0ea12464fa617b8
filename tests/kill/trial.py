"""What is tried: a way to die, in a phase of a run, and what may be left afterwards.

`KINDS` are the ways to die, `PHASES` the moments. A trial is one of each and a repeat, which also selects the
exact place within the phase. What is allowed in a cell follows from design: Ctrl-C once ends after the point,
twice, SIGTERM and SIGHUP end now, and whatever ends the process by force leaves a journal and a dark bench.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

PHASES = ("connecting", "moving", "acquiring", "paused", "writing", "finalising", "shutting_down", "viewing")

SOFT = {"sigint1": 1, "sigint2": 2, "sigint3": 3}
ENDING = ("sigterm", "sighup", "terminal")
DEATHS = ("sigkill", "sigsegv", "os_exit")
RAISING = ("exception", "memory_error")
HANGS = ("deadlock", "gil", "sigstop")
UNGUARDED = "unguarded"
"""Run and guardian killed at once, which nothing can survive: it shows that light left on is seen."""
KINDS = (*SOFT, *ENDING, *DEATHS, *RAISING, *HANGS, "guardian")

LIT = ("moving", "acquiring", "writing")
"""Phases in which light is on the sample when the trial acts; otherwise the trial would show nothing."""
DARK = ("connecting", "paused", "finalising")
"""Phases in which no photon may reach the sample."""

WAITING = ("moving", "acquiring", "paused", "writing")
"""Phases in which a run whose guardian has died waits in the dark until it is told to continue."""

PLACES = {"viewing": 4, "connecting": 3, "writing": 3, "finalising": 3, "shutting_down": 4}
"""Number of places within a phase, visited in turn by the repeats."""


@dataclass(frozen=True)
class Trial:
    """One run to be killed. `repeat` counts from 0."""

    kind: str
    phase: str
    repeat: int = 0

    @property
    def place(self) -> int:
        """Where within the phase."""
        return self.repeat % PLACES.get(self.phase, 1)

    @property
    def key(self) -> str:
        """Its name in tables, files and folders."""
        return f"{self.kind}-{self.phase}-{self.repeat}"

    @property
    def lit(self) -> bool:
        """Whether light must be on when the trial acts."""
        return self.phase in LIT or (self.phase == "shutting_down" and self.place == 0)

    @property
    def forced(self) -> bool:
        """Whether the process ends without a word of its own."""
        return self.kind in (*DEATHS, *HANGS, UNGUARDED)

    @property
    def statuses(self) -> set[str]:
        """How the run may have ended, as `open_run` tells it before anything is recovered."""
        late = self.phase == "finalising" or (self.phase == "shutting_down" and self.place == 3)
        if self.kind == "sigint3":  # the guardian ends the process, or it was quicker itself
            return {"crashed", "recovered", "abort", "fail"} | ({"success"} if late else set())
        if late:
            return {"success", "abort"} if self.kind in (*SOFT, *ENDING) else {"success"}
        if self.forced:
            return {"crashed"}
        if self.phase == "viewing":
            return {"success", "fail"}
        if self.kind in RAISING:  # a journal whose writer has failed is left for `labctl recover`
            return {"fail", "crashed"} if self.phase == "writing" else {"fail"}
        if self.kind == "guardian" or self.phase == "shutting_down":
            return {"success", "abort"}
        return {"abort"}


@dataclass
class Result:
    """What came of a trial. Times in s of wall time; NaN where there is none.

    dark_s: from the act until no light was left. limit_s: from the act to the time by which the engine had
    promised its next beat, for the hangs. cpu_s: of the run and its children, guardian included.
    """

    trial: Trial
    failures: list[str] = field(default_factory=list)
    dark_s: float = float("nan")
    limit_s: float = float("nan")
    wall_s: float = float("nan")
    cpu_s: float = float("nan")
    commit: str = ""
    evidence: str = ""

    @property
    def passed(self) -> bool:
        """Whether all held."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """As a line of the results file."""
        return asdict(self)

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Result:
        """Inverse of `to_json`."""
        return cls(**{**line, "trial": Trial(**line["trial"])})


def all_trials(repeats: int) -> Iterator[Trial]:
    """The long version, repeat by repeat, so that an interrupted matrix has seen every cell equally often.

    Those who watch a run (the progress bar) can only raise in it.
    """
    for repeat in range(repeats):
        for phase in PHASES:
            for kind in KINDS if phase != "viewing" else RAISING:
                yield Trial(kind, phase, repeat)
