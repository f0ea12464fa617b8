"""Self-audit of a tag file: what in it contradicts its header, its clock or steady counting.

Every finding is one line that names the record where it first shows. An empty list means that nothing was
found, not that the light was what one hoped for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl.timetags.records import MARKER_CHANNEL, SYNC_CHANNEL, UNKNOWN_CHANNEL, tag_records
from labctl.timetags.tagfile import DecodedSlice, TagFile

_RATE_WINDOWS = 64
_RATE_STEP_SIGMAS = 7.0
_SILENCE_CHANCE = 1e-6
_SYNC_TOLERANCE = 0.01
_DTIME_TOLERANCE = 1.001


@dataclass
class _Occurrence:
    """How often something was seen, where first, and a number that describes the first or worst case."""

    count: int = 0
    record: int = -1
    size: int = 0

    def see(
        self, piece: DecodedSlice, tagfile: TagFile, where: NDArray[np.bool_], sizes: NDArray[np.int64]
    ) -> None:
        positions = np.flatnonzero(where)
        if positions.size and self.count == 0:
            first = int(positions[0])
            self.record, self.size = _record(piece, tagfile, first), int(sizes[first])
        self.count += int(positions.size)


@dataclass
class _Scan:
    """What one pass over the records collects."""

    unknown: _Occurrence = field(default_factory=_Occurrence)
    backwards: _Occurrence = field(default_factory=_Occurrence)
    late_dtimes: _Occurrence = field(default_factory=_Occurrence)
    markers: _Occurrence = field(default_factory=_Occurrence)
    silence: _Occurrence = field(default_factory=_Occurrence)
    windows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_RATE_WINDOWS, np.int64))
    window_records: NDArray[np.int64] = field(default_factory=lambda: np.full(_RATE_WINDOWS, -1, np.int64))
    photons: int = 0
    last_clock: int = 0
    last_photon_ps: int = 0


def audit(tagfile: TagFile) -> list[str]:
    """Findings about `tagfile`, one line each: header counts, unknown records, clock order and overflows,
    dtimes beyond the period, sync rate, markers, silences and rate steps."""
    scan = _Scan()
    for piece in tagfile.slices():
        _look_at(piece, tagfile, scan)
    checks: tuple[Callable[[TagFile, _Scan], list[str]], ...] = (
        _record_count,
        _unknown_records,
        _clock_order,
        _dtimes,
        _sync_rate,
        _markers,
        _silence,
        _rate_step,
    )
    return [finding for check in checks for finding in check(tagfile, scan)]


def _record(piece: DecodedSlice, tagfile: TagFile, tag: int) -> int:
    return piece.first_record + int(tag_records(piece.records, tagfile.kind)[tag])


def _look_at(piece: DecodedSlice, tagfile: TagFile, scan: _Scan) -> None:
    tags = piece.tags
    if tags.clock.size == 0:
        return
    steps = np.diff(tags.clock, prepend=scan.last_clock)
    scan.last_clock = int(tags.clock[-1])
    scan.backwards.see(piece, tagfile, steps < 0, -steps)
    channels = tags.channels.astype(np.int64)
    scan.unknown.see(piece, tagfile, channels >= UNKNOWN_CHANNEL, channels - UNKNOWN_CHANNEL)
    is_marker = (channels > MARKER_CHANNEL) & (channels < UNKNOWN_CHANNEL)
    scan.markers.see(piece, tagfile, is_marker, channels - MARKER_CHANNEL)
    if tagfile.sync_period_ps is not None:
        dtimes = tags.dtimes.astype(np.int64)
        late = dtimes * tagfile.resolution_ps > _DTIME_TOLERANCE * tagfile.sync_period_ps
        scan.late_dtimes.see(piece, tagfile, late, dtimes)
    _look_at_photons(piece, tagfile, scan)


def _look_at_photons(piece: DecodedSlice, tagfile: TagFile, scan: _Scan) -> None:
    photons = np.flatnonzero(piece.tags.channels < SYNC_CHANNEL)
    if photons.size == 0:
        return
    times = tagfile.times_ps(piece.tags)[photons]
    silences = np.diff(times, prepend=scan.last_photon_ps)
    longest = int(np.argmax(silences))
    if silences[longest] > scan.silence.size:
        scan.silence = _Occurrence(1, _record(piece, tagfile, int(photons[longest])), int(silences[longest]))
    scan.last_photon_ps = int(times[-1])
    scan.photons += int(photons.size)
    windows = np.minimum(times // max(tagfile.duration_ps // _RATE_WINDOWS, 1), _RATE_WINDOWS - 1)
    scan.windows += np.bincount(windows, minlength=_RATE_WINDOWS)
    seen, first = np.unique(windows, return_index=True)
    fresh = scan.window_records[seen] < 0
    records = piece.first_record + tag_records(piece.records, tagfile.kind)[photons[first]]
    scan.window_records[seen[fresh]] = records[fresh]


def _record_count(tagfile: TagFile, scan: _Scan) -> list[str]:
    if tagfile.stated_records <= 0 and tagfile.records:
        return [
            f"header states no record count (measurement not finished?); "
            f"the file holds {tagfile.records} records"
        ]
    if tagfile.surplus_records:
        return [
            f"header states {tagfile.stated_records} records, {tagfile.surplus_records} more follow "
            f"from record {tagfile.records} on and were not used"
        ]
    return []


def _unknown_records(tagfile: TagFile, scan: _Scan) -> list[str]:
    seen = scan.unknown
    if not seen.count:
        return []
    return [
        f"{seen.count} special records of unknown kind, first at record {seen.record} "
        f"(channel field {seen.size})"
    ]


def _clock_order(tagfile: TagFile, scan: _Scan) -> list[str]:
    seen = scan.backwards
    if not seen.count:
        return []
    unit = "ticks" if tagfile.mode == "T2" else "syncs"
    missing = 2 * seen.size > tagfile.kind.wrap
    cause = "an overflow record is probably missing" if missing else "records are out of order or repeated"
    return [
        f"order violation: the clock goes back {seen.count} times, first at record {seen.record} "
        f"by {seen.size} {unit}: {cause}"
    ]


def _dtimes(tagfile: TagFile, scan: _Scan) -> list[str]:
    seen = scan.late_dtimes
    if not seen.count or tagfile.sync_period_ps is None:
        return []
    return [
        f"{seen.count} dtimes beyond the sync period, first at record {seen.record}: dtime {seen.size} = "
        f"{seen.size * tagfile.resolution_ps:.0f} ps > period {tagfile.sync_period_ps:.1f} ps"
    ]


def _sync_rate(tagfile: TagFile, scan: _Scan) -> list[str]:
    stated = float(tagfile.header.get("TTResult_SyncRate", tagfile.header.get("SyncRate", 0)))
    if tagfile.mode == "T2":
        n_syncs = tagfile.channels.get(SYNC_CHANNEL, 0)
        if not n_syncs:
            return []
        return _sync_mismatch(stated, n_syncs / tagfile.duration_s, "the sync records")
    findings = []
    if tagfile.sync_period_ps:
        findings += _sync_mismatch(stated, 1e12 / tagfile.sync_period_ps, "the header's own sync period")
    elapsed_ms = tagfile.header.get("TTResult_StopAfter", tagfile.header.get("StopAfter", 0))
    if elapsed_ms and scan.photons > 100:
        findings += _sync_mismatch(
            stated, scan.last_clock / (elapsed_ms * 1e-3), "the sync count at the last tag"
        )
    return findings


def _sync_mismatch(stated_hz: float, measured_hz: float, source: str) -> list[str]:
    if measured_hz > 0 and abs(stated_hz / measured_hz - 1.0) <= _SYNC_TOLERANCE:
        return []
    return [f"sync rate: the header states {stated_hz:.6g} Hz, {source} gives {measured_hz:.6g} Hz"]


def _markers(tagfile: TagFile, scan: _Scan) -> list[str]:
    if not scan.markers.count:
        return []
    kinds = {c - MARKER_CHANNEL: n for c, n in tagfile.channels.items() if c > MARKER_CHANNEL}
    listed = ", ".join(f"{n} of bits {bits}" for bits, n in kinds.items())
    return [f"markers present: {listed}; first at record {scan.markers.record}"]


def _silence(tagfile: TagFile, scan: _Scan) -> list[str]:
    if scan.photons < 100 or tagfile.duration_ps == 0:
        return []
    mean_interval_ps = tagfile.duration_ps / scan.photons
    chance = scan.photons * math.exp(-scan.silence.size / mean_interval_ps)
    if chance > _SILENCE_CHANCE:
        return []
    return [
        f"silence of {scan.silence.size * 1e-12:.3g} s before record {scan.silence.record}: "
        f"the mean interval between photons is {mean_interval_ps * 1e-12:.3g} s"
    ]


def _rate_step(tagfile: TagFile, scan: _Scan) -> list[str]:
    if scan.photons < 100 * _RATE_WINDOWS:
        return []
    before, after = scan.windows[:-1].astype(float), scan.windows[1:].astype(float)
    sigmas = np.abs(after - before) / np.sqrt(np.maximum(after + before, 1.0))
    largest = int(np.argmax(sigmas))
    if sigmas[largest] < _RATE_STEP_SIGMAS:
        return []
    window_s = tagfile.duration_s / _RATE_WINDOWS
    record = scan.window_records[largest + 1]
    where = f"record {record}" if record >= 0 else f"{(largest + 1) * window_s:.3g} s"
    return [
        f"rate step near {where}: {before[largest] / window_s:.4g} Hz to {after[largest] / window_s:.4g} Hz "
        f"({sigmas[largest]:.1f} sigma)"
    ]
