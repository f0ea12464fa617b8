"""`labctl analyze` on synthetic files, against brute force, and on genuine recordings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.store import open_run
from labctl.timetags import read_tags
from tests.cli.commands import ROOT, Call, assert_refused, labctl_process
from tests.timetags.ptu_writer import FAMILIES, T2, T3, Event, encode, write_ptu

KEYS = {"file", "records", "channels", "duration_s", "audit", "correlations", "pulsed"}
SYNC_PS, DTIME_PS = 100_000, 16
WINDOW_PS, BIN_PS = 50_000, 1_000
LAGS = ("--window", "50 ns", "--bin", "1 ns")
PULSES = 3


def write_t2(folder: Path) -> tuple[Path, list[Event]]:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 5_000_000, 700))
    events = [Event(int(c), int(t)) for t, c in zip(times, rng.integers(0, 2, 700), strict=True)]
    kind = FAMILIES["MultiHarp"] | T2
    return write_ptu(folder / "t2.ptu", encode(events, kind), kind), events


def write_t3(folder: Path) -> tuple[Path, list[Event]]:
    rng = np.random.default_rng(2)
    syncs, dtimes = np.sort(rng.integers(0, 3_000, 600)), rng.integers(0, SYNC_PS // DTIME_PS, 600)
    order = np.lexsort((dtimes, syncs))
    events = [
        Event(int(c), int(s), int(d))
        for s, d, c in zip(syncs[order], dtimes[order], rng.integers(0, 2, 600), strict=True)
    ]
    kind = FAMILIES["HydraHarpV2"] | T3
    path = write_ptu(
        folder / "t3.ptu", encode(events, kind), kind,
        global_resolution_s=SYNC_PS * 1e-12, resolution_s=DTIME_PS * 1e-12,
    )  # fmt: skip
    return path, events


def differences(values: list[int], events: list[Event], a: int, b: int) -> np.ndarray:
    """value of the second minus value of the first, for all ordered pairs of different events."""
    numbers, channels = np.array(values), np.array([event.channel for event in events])
    table = numbers[None, :] - numbers[:, None]
    wanted = (channels[:, None] == a) & (channels[None, :] == b) & ~np.eye(len(values), dtype=bool)
    return table[wanted]


def assert_correlations(report: dict[str, Any], events: list[Event], times_ps: list[int]) -> None:
    edges = np.arange(-WINDOW_PS, WINDOW_PS + BIN_PS, BIN_PS)
    for found in report["correlations"]:
        lags = differences(times_ps, events, *found["pair"])
        lags = lags[lags < WINDOW_PS]  # numpy closes the last bin
        assert found["lag_edges_ps"] == edges.tolist()
        assert found["counts"] == np.histogram(lags, edges)[0].tolist()


def test_t2_by_brute_force(labctl: Call, tmp_path: Path) -> None:
    path, events = write_t2(tmp_path)
    report = json.loads(labctl("analyze", str(path), *LAGS, "--json").out)
    assert set(report) == {*KEYS, "figure"}
    assert report["records"] >= len(events)
    assert report["channels"] == {str(c): sum(e.channel == c for e in events) for c in (0, 1)}
    assert report["duration_s"] == pytest.approx((events[-1].clock + 1) * 1e-12, abs=2e-12)
    assert (report["audit"], report["pulsed"]) == ([], [])
    assert [tuple(found["pair"]) for found in report["correlations"]] == [(0, 0), (0, 1), (1, 1)]
    assert_correlations(report, events, [event.clock for event in events])
    assert Path(report["figure"]).read_bytes().startswith(b"\x89PNG")


def test_t3_by_brute_force(labctl: Call, tmp_path: Path) -> None:
    path, events = write_t3(tmp_path)
    ended = labctl("analyze", str(path), *LAGS, "--pair", "1", "0", "--pulsed", str(PULSES), "--json")
    report = json.loads(ended.out)
    assert set(report) == {*KEYS, "figure"}
    assert [tuple(found["pair"]) for found in report["correlations"]] == [(1, 0)]
    assert_correlations(report, events, [e.clock * SYNC_PS + e.dtime * DTIME_PS for e in events])
    (pulsed,) = report["pulsed"]
    steps = differences([event.clock for event in events], events, 1, 0)
    assert (pulsed["pair"], pulsed["lags"]) == ([1, 0], list(range(-PULSES, PULSES + 1)))
    assert pulsed["counts"] == [int(np.count_nonzero(steps == lag)) for lag in pulsed["lags"]]


def test_a_channel_without_tags_is_said(labctl: Call, tmp_path: Path) -> None:
    path, _ = write_t2(tmp_path)
    report = json.loads(labctl("analyze", str(path), "--pair", "0", "7", "--json").out)
    assert report["audit"] == ["channel 7 of the pair has no tags; channels with tags: 0, 1"]
    assert sum(report["correlations"][0]["counts"]) == 0
    assert "channel 7 of the pair has no tags" in labctl("analyze", str(path), "--pair", "0", "7").out


def test_a_stored_recording_is_a_run(labctl: Call, tmp_path: Path) -> None:
    path, events = write_t2(tmp_path)
    report = json.loads(labctl("analyze", str(path), "--store", "--json").out)
    assert set(report) == {*KEYS, "figure", "run"}
    data = open_run(report["run"])
    assert (data.status, data.experiment) == ("success", "recording")
    blocks = list(data.tag_blocks(data.acquisitions[0]))
    assert np.concatenate([b.times_ps for b in blocks]).tolist() == [event.clock for event in events]
    assert json.loads(labctl("show", "last", "--json").out)["run"] == report["run"]
    assert_refused(labctl("plot", "last"), "recording")
    assert_valid_nexus(data.path)


def assert_valid_nexus(path: Path) -> None:
    pytest.importorskip("nexusformat")
    code = "import sys; from nexusformat.scripts.nxcheck import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert "Total number of warnings: 0" in done.stdout and "Total number of errors: 0" in done.stdout, done


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--bin", "0 ns"), ["--bin '0 ns'", "at least 1 ps"]),
        (("--bin", "0.1 ps"), ["--bin", "at least 1 ps"]),
        (("--window=-1 ns",), ["--window '-1 ns'", "at least 1 ps"]),
        (("--window", "100 ns", "--bin", "3 ns"), ["not a multiple of --bin '3 ns'", "--window '99 ns'"]),
        (("--bin", "3 m"), ["--bin", "'3 m' is a length"]),
        (("--pair", "0"), ["--pair", "--help"]),
        (("--pair", "a", "b"), ["--pair", "--help"]),
        (("--pulsed", "2"), ["t2.ptu is a T2 file", "T3"]),
        (("--pulsed", "0"), ["--pulsed"]),
        (("--figure", "figure.xyz"), ["--figure figure.xyz", "png"]),
        (("--figure", "nowhere/figure.png"), ["--figure nowhere/figure.png", "no folder nowhere"]),
        (("--store", "--out", "t2.ptu"), ["--out t2.ptu", "is a file"]),
    ],
)
def test_options_that_cannot_be(
    labctl: Call, tmp_path: Path, options: tuple[str, ...], words: list[str]
) -> None:
    write_t2(tmp_path)
    assert_refused(labctl("analyze", "t2.ptu", *options), *words)
    assert [file.name for file in tmp_path.iterdir()] == ["t2.ptu"]


def damaged_files(folder: Path) -> dict[str, list[str]]:
    """Files that are no recordings, and what must be said of each."""
    whole = write_t2(folder)[0].read_bytes()
    contents = {
        "truncated.ptu": whole[:-400],
        "header.ptu": whole[:100],
        "empty.ptu": b"",
        "foreign.ptu": b"%PDF-1.4",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {
        "truncated.ptu": ["truncated", "records but the file holds"],
        "header.ptu": [],
        "empty.ptu": ["the file is empty"],
        "foreign.ptu": ["unknown file type", "supported are PTU"],
        "missing.ptu": ["no file missing.ptu"],
    }


def test_damaged_files(labctl: Call, tmp_path: Path) -> None:
    files = damaged_files(tmp_path)
    for name, words in files.items():
        assert_refused(labctl("analyze", name, "--store"), name, *words)
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob("*.png"))
    assert_refused(labctl_process(tmp_path, "analyze", "truncated.ptu"), *files["truncated.ptu"])


@pytest.mark.parametrize("name", ["hydraharp_v30_t2.ptu", "hydraharp_v20.ht3"])
def test_genuine_recordings(labctl: Call, name: str) -> None:
    folder = Path(os.environ.get("LABCTL_REAL_DATA", ROOT.parent / "shared" / "data" / "real"))
    if not (folder / name).is_file():
        pytest.skip(f"no genuine recordings in {folder}; set LABCTL_REAL_DATA")
    report = json.loads(labctl("analyze", str(folder / name), "--json").out)
    tagfile = read_tags(folder / name)
    assert set(report) == {*KEYS, "figure"}
    assert report["channels"] == {str(channel): number for channel, number in tagfile.channels.items()}
    assert (report["records"], report["duration_s"]) == (tagfile.records, tagfile.duration_s)
    assert report["correlations"]
