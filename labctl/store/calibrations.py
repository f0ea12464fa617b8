"""Calibrations: numbers that a bench was found to have, with error, validity and the run that made them.

Every calibration of one name on one bench is a line of `<root>/calibrations/<bench>/<name>.jsonl`. Lines are
only ever added, so what a run used can always be found again. In use is the newest that is still valid; an
older one is chosen by its time.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .append import append_line
from .errors import StoreError
from .folder import sync_folder
from .reader import RunData

FOLDER = "calibrations"
Arrays = dict[str, NDArray[Any]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Calibration:
    """One calibrated quantity of one bench.

    value: a number, or arrays by name (an instrument response with its times); error: standard error of a
    number, or arrays like the value, None if unknown. unit: SI. method: how it was obtained, in a few words.
    valid_until: None for one that does not age. run_uuid, run_path: the run that made it, "" if none did.
    serials: text that occurs in the identity of each instrument that it belongs to, by instrument.
    Times carry a time zone.
    Raises ValueError for a name that is no file name, a number that is not finite, times without a zone.
    """

    bench: str
    name: str
    value: float | Arrays
    error: float | Arrays | None
    unit: str
    method: str
    made_at: datetime
    valid_until: datetime | None = None
    run_uuid: str = ""
    run_path: str = ""
    serials: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in (self.bench, self.name):
            if not _NAME.fullmatch(text):
                raise ValueError(f"calibration {text!r}: use letters, digits, _ and - only")
        for number in (self.value, self.error):
            if isinstance(number, float | int) and not math.isfinite(number):
                raise ValueError(f"calibration {self.name} = {number}: give a finite number")
        for time in (self.made_at, self.valid_until):
            if time is not None and time.tzinfo is None:
                raise ValueError(f"calibration {self.name}: {time} has no time zone; use datetime.now(UTC)")

    def stale(self, at: datetime) -> bool:
        """Whether it is no longer valid."""
        return self.valid_until is not None and at > self.valid_until

    def foreign(self, identities: Mapping[str, str]) -> list[str]:
        """Instruments of the bench that are not those it was made with."""
        return [name for name, serial in self.serials.items() if serial not in identities.get(name, "")]

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same calibration, arrays bit for bit."""
        return asdict(self) | {
            "value": _plain(self.value),
            "error": _plain(self.error),
            "made_at": self.made_at.isoformat(),
            "valid_until": self.valid_until.isoformat() if self.valid_until else None,
            "serials": dict(self.serials),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` described. Raises KeyError, TypeError or ValueError."""
        until = record["valid_until"]
        return cls(**{
            **record,
            "value": _value(record["value"]),
            "error": _value(record["error"]),
            "made_at": datetime.fromisoformat(record["made_at"]),
            "valid_until": datetime.fromisoformat(until) if until else None,
        })  # fmt: skip


class CalibrationStore:
    """The calibrations beside the runs of the folder `root`; may be used by several processes at once."""

    def __init__(self, root: Path | str) -> None:
        self._folder = Path(root) / FOLDER

    def add(self, calibration: Calibration) -> None:
        """Add a calibration; it is durable on return. Raises StoreError when the disk refuses."""
        file = self._file(calibration.bench, calibration.name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            append_line(file, json.dumps(calibration.to_json(), allow_nan=False))
        except OSError as error:
            raise StoreError(f"{file}: the calibration was not kept ({error.strerror}); make room") from error
        sync_folder(file.parent)

    def latest(self, bench: str, name: str, at: datetime | None = None) -> Calibration | None:
        """The calibration in use at a time (now): the newest valid one made until then, else the newest
        stale one, None if there is none."""
        moment = at or datetime.now(UTC)
        made = [c for c in self.history(bench, name) if c.made_at <= moment]
        return max(made, key=lambda c: (not c.stale(moment), c.made_at), default=None)

    def history(self, bench: str, name: str) -> list[Calibration]:
        """All calibrations of one name, in the order in which they were made."""
        return sorted(self._read(self._file(bench, name)), key=lambda c: c.made_at)

    def names(self, bench: str) -> list[str]:
        """What was ever calibrated on a bench."""
        return sorted(file.stem for file in (self._folder / bench).glob("*.jsonl"))

    def benches(self) -> list[str]:
        """The benches that have calibrations."""
        return sorted(folder.name for folder in self._folder.glob("*") if folder.is_dir())

    def _file(self, bench: str, name: str) -> Path:
        return self._folder / bench / f"{name}.jsonl"

    def _read(self, file: Path) -> Iterator[Calibration]:
        if not file.is_file():
            return
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                yield Calibration.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("%s:%d: left out, not a calibration (%s)", file, number, error)


def calibration_from(
    data: RunData,
    name: str,
    value: float | Arrays,
    error: float | Arrays | None,
    *,
    unit: str,
    method: str,
    valid_for: timedelta | None = None,
    serials: Mapping[str, str] | None = None,
) -> Calibration:
    """What a run found, as a calibration of its bench; made when the run began. valid_for: from then on."""
    made_at = datetime.fromisoformat(data.header["start_time"])
    return Calibration(
        data.header["bench"], name, value, error, unit, method, made_at,
        valid_until=made_at + valid_for if valid_for else None,
        run_uuid=data.header["uuid"], run_path=str(data.directory), serials=serials or {},
    )  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """The calibrations a run uses, by name, as its header keeps them, and warnings for its user."""

    used: dict[str, dict[str, Any]]
    warnings: list[str]


def choose_calibrations(
    store: CalibrationStore, bench: str, names: tuple[str, ...], identities: Mapping[str, str], at: datetime
) -> Chosen:
    """The calibrations in use for an experiment that declares `names`; what is missing or stale is warned of.

    identities: what each instrument says it is, by name. at: the time of the run.
    """
    used, warnings = {}, []
    for name in names:
        found = store.latest(bench, name, at)
        if found is None:
            warnings.append(f"{bench} has no calibration {name!r}; the value of the bench file is used")
            continue
        used[name] = found.to_json()
        warnings += _complaints(found, identities, at)
    return Chosen(used, warnings)


def _complaints(found: Calibration, identities: Mapping[str, str], at: datetime) -> Iterator[str]:
    if found.stale(at):
        until = f"{found.valid_until:%Y-%m-%d %H:%M %Z}"
        yield f"calibration {found.name!r} of {found.bench} was valid until {until}; make a new one"
    for instrument in found.foreign(identities):
        yield (
            f"calibration {found.name!r} of {found.bench} belongs to {instrument} "
            f"{found.serials[instrument]}, but there is {identities.get(instrument, 'none')}; make a new one"
        )


def calibrated(header: Mapping[str, Any], name: str) -> float | Arrays:
    """The value of a calibration that a run used, else that of its bench file (`values:`).

    Raises StoreError when the run has neither.
    """
    used = (header.get("calibrations") or {}).get(name)
    if used is not None:
        return Calibration.from_json(used).value
    if name in (header.get("bench_values") or {}):
        return float(header["bench_values"][name])
    raise StoreError(f"the run has no calibration {name!r}, nor has its bench file a value for it; add one")


def _plain(value: float | Arrays | None) -> Any:
    if isinstance(value, Mapping):
        return {name: {"npy": _encoded(np.asarray(array))} for name, array in value.items()}
    return None if value is None else float(value)


def _value(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        return {name: _decoded(array["npy"]) for name, array in plain.items()}
    return plain


def _encoded(array: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _decoded(text: str) -> NDArray[Any]:
    return np.asarray(np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False))
