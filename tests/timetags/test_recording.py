"""The report of a recording: shape of its JSON, counts against the definition, and a drawable figure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.analysis.recording import analyze_recording, plot_report
from labctl.timetags import correlate_reference, read_tags
from tests.timetags.ptu_writer import FAMILIES, T2, T3, Event, encode, write_ptu

KEYS = ["file", "records", "channels", "duration_s", "audit", "correlations", "pulsed"]
T2_TYPE, T3_TYPE = FAMILIES["HydraHarpV2"] | T2, FAMILIES["HydraHarpV2"] | T3


def t3_file(path, seed=2, n=3_000):
    rng = np.random.default_rng(seed)
    nsync = np.sort(rng.integers(0, 20_000, n))
    channels, dtimes = rng.integers(0, 2, n), rng.integers(0, 400, n)
    order = np.lexsort((dtimes, nsync))
    events = [
        Event(*row) for row in zip(*(x[order].tolist() for x in (channels, nsync, dtimes)), strict=True)
    ]
    write_ptu(path, encode(events, T3_TYPE), T3_TYPE, global_resolution_s=10e-9, resolution_s=20e-12)
    return events


def test_genuine_t2_report(real_data):
    path = real_data / "hydraharp_v30_t2.ptu"
    report = json.loads(json.dumps(analyze_recording(path, window_ps=20_000_000, bin_ps=100_000).as_dict()))
    assert list(report) == KEYS
    assert report["records"] == 435_319 and report["channels"] == {"0": 305_565}
    assert report["audit"] == [] and report["pulsed"] == []
    (auto,) = report["correlations"]
    assert auto["pair"] == [0, 0] and auto["lag_edges_ps"][0] == -20_000_000 == -auto["lag_edges_ps"][-1]
    (block, last) = read_tags(path).blocks()
    times = np.concatenate([block.times_ps, last.times_ps])
    channels = np.zeros(times.size, np.int32)
    expected = correlate_reference(times, channels, 0, 0, 20_000_000, 100_000)
    assert auto["counts"] == expected.tolist()


def test_t3_report(tmp_path):
    events = t3_file(tmp_path / "a.ptu")
    report = analyze_recording(tmp_path / "a.ptu", window_ps=50_000, bin_ps=500, pulsed=3)
    assert [c.pair for c in report.correlations] == [(0, 0), (0, 1), (1, 1)]
    times = np.array([10_000 * e.clock + 20 * e.dtime for e in events])
    channels = np.array([e.channel for e in events], np.int32)
    for found in report.correlations:
        expected = correlate_reference(times, channels, *found.pair, 50_000, 500)
        np.testing.assert_array_equal(found.counts, expected)
    nsync = np.array([e.clock for e in events])
    for pulsed in report.as_dict()["pulsed"]:
        a, b = pulsed["pair"]
        difference = nsync[None, channels == b] - nsync[channels == a, None]
        expected = [int(np.sum(difference == lag)) for lag in range(-3, 4)]
        if a == b:
            expected[3] -= int(np.sum(channels == a))
        assert pulsed["counts"] == expected and pulsed["lags"] == [-3, -2, -1, 0, 1, 2, 3]
    for decay in report.decays:
        mine = [e.dtime for e in events if e.channel == decay.channel]
        np.testing.assert_array_equal(decay.counts, np.bincount(mine))
        assert decay.edges_ps[1] == 20.0


def test_given_pairs_are_kept_in_order(tmp_path):
    t3_file(tmp_path / "a.ptu")
    report = analyze_recording(tmp_path / "a.ptu", pairs=[(1, 0), (0, 7)])
    assert [c.pair for c in report.correlations] == [(1, 0), (0, 7)]
    assert report.correlations[1].counts.sum() == 0 and report.pulsed == []


def test_pulse_numbers_need_t3(tmp_path):
    write_ptu(tmp_path / "a.ptu", encode([Event(0, 5)], T2_TYPE), T2_TYPE)
    with pytest.raises(ValueError, match="need T3 records"):
        analyze_recording(tmp_path / "a.ptu", pulsed=3)


def test_a_broken_clock_ends_the_correlation_and_is_said(tmp_path):
    events = [Event(0, 1_000 * k) for k in range(50)]
    records = encode(events, T2_TYPE)
    records[30] = 5
    report = analyze_recording(write_ptu(tmp_path / "a.ptu", records, T2_TYPE))
    assert "first at record 30 " in report.audit[0]
    assert "cover only the first" in report.audit[-1] and "record 30 goes back" in report.audit[-1]
    assert report.channels == {0: 50}


def test_a_broken_sync_count_ends_coincidences_too(tmp_path):
    records = encode([Event(0, 2 * k, 5) for k in range(50)], T3_TYPE)
    records[30] = 5
    write_ptu(tmp_path / "a.ptu", records, T3_TYPE, global_resolution_s=10e-9)
    report = analyze_recording(tmp_path / "a.ptu", pulsed=2)
    assert "record 30 goes back" in report.audit[-1]
    assert report.pulsed[0].counts.sum() == 0 and report.decays[0].counts.sum() == 0


def test_an_empty_recording_has_a_report(tmp_path):
    report = analyze_recording(write_ptu(tmp_path / "a.ptu", [], T2_TYPE))
    assert report.as_dict()["correlations"] == [] and report.duration_s == 0
    plot_report(report, Figure())


@pytest.mark.parametrize("name", ["hydraharp_v30_t2.ptu", "hydraharp_v20.ht3"])
def test_figure_of_genuine_recordings(real_data, tmp_path, name):
    report = analyze_recording(real_data / name)
    figure = Figure(figsize=(6, 6), dpi=50)
    plot_report(report, figure)
    figure.savefig(tmp_path / "report.png")
    labels = [axes.get_xlabel() for axes in figure.axes if axes.axison]
    assert labels[0] == "time (s)" and labels[1] == "lag t_0 − t_0 (ns)"
    assert len(labels) == 1 + len(report.correlations) + bool(report.decays)
    if report.decays:
        assert labels[-1] == "time after sync (ns)"
        assert figure.axes[len(labels) - 1].get_yscale() == "log"
