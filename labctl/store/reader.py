"""Reading a run: one API for a finished file, a run that is being written, and one whose process died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from labctl.timetags.block import TagBlock

from .contents import (
    ROW_COLUMNS,
    Acquisition,
    AuditEntry,
    Monitor,
    RunContents,
    SweepTable,
    fold_journal,
)
from .errors import StoreError
from .folder import JOURNAL, RUN_FILE, find_run, is_locked
from .nexus_read import load_run
from .sources import HDF5Tags, TagSource, read_blocks

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class RunData:
    """A run as it was when it was opened; only tags are still read from disk when asked for.

    status: "success", "abort", "fail", "recovered"; "running" or "crashed" when there is only a journal.
    """

    path: Path
    status: str
    contents: RunContents
    tag_source: TagSource

    @property
    def directory(self) -> Path:
        """The run's folder, where figures and attachments are kept."""
        return self.path.parent

    @property
    def header(self) -> dict[str, Any]:
        """Everything recorded at the start."""
        return self.contents.header

    @property
    def experiment(self) -> str:
        """Name of the experiment."""
        return str(self.header["experiment"])

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the experiment."""
        return dict(self.header.get("parameters") or {})

    @property
    def reason(self) -> str:
        """Why the run ended as it did."""
        return self.contents.reason

    @property
    def twin(self) -> dict[str, Any] | None:
        """The hidden truth, for a run on a twin."""
        return self.contents.twin

    @property
    def events(self) -> list[dict[str, Any]]:
        """Events in order; each has kind, bench_time_s, wall_time_s and its own fields."""
        return self.contents.events

    @property
    def log(self) -> list[dict[str, Any]]:
        """Log lines in order: level, message, bench_time_s, wall_time_s."""
        return self.contents.log

    @property
    def snapshots(self) -> dict[str, dict[str, Any]]:
        """Instrument snapshots by label."""
        return self.contents.snapshots

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps, in the order of their first rows."""
        return list(self.contents.sweeps)

    @property
    def memos(self) -> dict[str, Any]:
        """Values that the run remembers, by their keys."""
        return self.contents.memos

    @property
    def audit(self) -> list[AuditEntry]:
        """Every parameter that was set, in order."""
        return self.contents.audit

    @property
    def monitors(self) -> dict[str, Monitor]:
        """Readings of slow quantities by name."""
        return self.contents.monitors

    @property
    def damage(self) -> tuple[str, ...]:
        """What is spoilt in the journal of a run that is not recovered yet; blocks behind it are missing."""
        return self.contents.damage

    @property
    def acquisitions(self) -> list[Acquisition]:
        """The acquisitions that count, in the order of their beginning."""
        return [item for item in self.contents.acquisitions if not item.discarded]

    @property
    def all_acquisitions(self) -> list[Acquisition]:
        """The discarded acquisitions too."""
        return self.contents.acquisitions

    def rows(self, sweep: str) -> dict[str, NDArray[Any]]:
        """Columns of a sweep, rows as taken: index, attempt, time (bench, s), wall_time (s), recorded values.

        A missing number is NaN, a missing text "". Raises StoreError for an unknown sweep.
        """
        return self._table(sweep).columns

    def units(self, sweep: str) -> dict[str, str]:
        """Units of the columns that have one."""
        return self._table(sweep).units

    def xarray(self, sweep: str) -> xarray.Dataset:
        """A sweep along the dimension "row", units in the attributes."""
        import xarray

        table = self._table(sweep)
        variables = {
            name: xarray.Variable("row", values, {"units": table.units[name]} if name in table.units else {})
            for name, values in table.columns.items()
        }
        coordinates = {name: variables.pop(name) for name in ROW_COLUMNS}
        return xarray.Dataset(variables, coordinates, {"experiment": self.experiment, "sweep": sweep})

    def tag_blocks(self, *acquisitions: Acquisition | int) -> Iterator[TagBlock]:
        """The blocks of one acquisition, or of several, in the order of time; one in memory at a time.

        Raises StoreError for an acquisition that the run has not.
        """
        numbers: list[int] = []
        for acquisition in acquisitions:
            number = acquisition.id if isinstance(acquisition, Acquisition) else acquisition
            if all(item.id != number for item in self.all_acquisitions):
                count = len(self.all_acquisitions)
                raise StoreError(f"{self.path}: no acquisition {number}; the run has {count}")
            numbers += self._blocks_of.get(number, [])
        blocks = self.contents.blocks
        if len(acquisitions) > 1:  # those of a run with added live time are interleaved
            numbers.sort(key=blocks.begin_ps.__getitem__)
        return read_blocks(self.tag_source, blocks, self._first_tags, numbers)

    @cached_property
    def _first_tags(self) -> list[int]:
        return [0, *accumulate(self.contents.blocks.tags)]

    @cached_property
    def _blocks_of(self) -> dict[int, list[int]]:
        numbers: dict[int, list[int]] = {}
        for number, acquisition in enumerate(self.contents.blocks.acquisition):
            numbers.setdefault(acquisition, []).append(number)
        return numbers

    def _table(self, sweep: str) -> SweepTable:
        if sweep not in self.contents.sweeps:
            known = ", ".join(self.sweeps) or "none"
            raise StoreError(f"{self.path}: there is no sweep {sweep!r}; the run has: {known}")
        return self.contents.sweeps[sweep]


def open_run(path: Path | str) -> RunData:
    """Open a run by its folder, its `run.h5` or its journal.

    Raises RunNotFound, naming the nearest run; StoreError when the file is no run or the journal is empty.
    """
    folder = find_run(Path(path))
    finished, journal = folder / RUN_FILE, folder / JOURNAL
    if journal.exists():  # it has all that a run file beside it has
        try:
            return _open_journal(folder, journal)
        except FileNotFoundError:  # the run was finished at this moment
            pass
    contents = load_run(finished)
    return RunData(finished, contents.status, contents, HDF5Tags(finished))


def _open_journal(folder: Path, journal: Path) -> RunData:
    status = "running" if is_locked(folder) else "crashed"
    contents, tags, _ = fold_journal(journal)
    return RunData(journal, contents.status or status, contents, tags)
