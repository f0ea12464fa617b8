"""The self-audit finds injected faults and names the record; it is silent on a good recording."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.timetags import audit, read_tags
from tests.timetags.ptu_writer import FAMILIES, MARKER, SYNC, T2, T3, Event, encode, write_ptu

T2_TYPE, T3_TYPE = FAMILIES["HydraHarpV2"] | T2, FAMILIES["MultiHarp"] | T3
WRAP = 1 << 25


def poisson_events(n=8_000, step=20_000, seed=0):
    rng = np.random.default_rng(seed)
    clocks = np.cumsum(rng.exponential(step, n)).astype(np.int64).tolist()
    return [Event(int(c), t) for c, t in zip(rng.integers(0, 2, n), clocks, strict=True)]


def findings(tmp_path, records, record_type=T2_TYPE, **options):
    return audit(read_tags(write_ptu(tmp_path / "a.ptu", records, record_type, **options)))


def test_a_steady_recording_has_no_findings(tmp_path):
    # 63 window differences at 7 sigma: false alarm below 1e-9
    assert findings(tmp_path, encode(poisson_events(), T2_TYPE)) == []


def test_genuine_recording_has_no_findings(real_data):
    assert audit(read_tags(real_data / "hydraharp_v30_t2.ptu")) == []


def test_genuine_recording_with_unsteady_light(real_data):
    (finding,) = audit(read_tags(real_data / "hydraharp_v20.ht3"))
    assert "rate step near record 1966" in finding


def test_missing_overflow(tmp_path):
    records = encode(poisson_events(), T2_TYPE)
    lost = [i for i, record in enumerate(records) if record >> 25 == 0x7F][1]
    del records[lost]
    (finding,) = findings(tmp_path, records)
    assert f"first at record {lost} " in finding and "overflow record is probably missing" in finding


def test_swapped_records(tmp_path):
    records = encode(poisson_events(), T2_TYPE)
    records[100], records[101] = records[101], records[100]
    (finding,) = findings(tmp_path, records)
    assert "goes back 1 times, first at record 101 " in finding and "out of order" in finding


def test_duplicated_stretch(tmp_path):
    records = encode(poisson_events(), T2_TYPE)
    (finding,) = findings(tmp_path, records[:60] + records[50:])
    assert "first at record 60 " in finding


def test_t3_faults(tmp_path):
    events = [Event(0, 10 * k, 100) for k in range(1_000)]
    events[700] = Event(1, 7_000, 2_000)
    events[800] = Event(MARKER + 4, 8_000)
    found = findings(
        tmp_path, encode(events, T3_TYPE), T3_TYPE, global_resolution_s=12.5e-9, resolution_s=25e-12,
        TTResult_SyncRate=40_000_000,
    )  # fmt: skip
    late, rate, marker = found
    shift = 700 * 10 // 1024
    assert late.startswith(
        f"1 dtimes beyond the sync period, first at record {700 + shift}: dtime 2000 = 50000 ps"
    )
    assert "states 4e+07 Hz" in rate and "gives 8e+07 Hz" in rate
    assert marker == f"markers present: 1 of bits 4; first at record {800 + 8_000 // 1024}"


def test_t2_sync_rate(tmp_path):
    events = [Event(SYNC, 1_000_000 * k) for k in range(1_000)]
    (finding,) = findings(tmp_path, encode(events, T2_TYPE), TTResult_SyncRate=2_000_000)
    assert "sync records gives 1.001e+06 Hz" in finding


def test_unknown_special_records(tmp_path):
    records = encode(poisson_events(), T2_TYPE)
    records.insert(33, 1 << 31 | 40 << 25 | records[32] & 0x1FFFFFF)
    (finding,) = findings(tmp_path, records)
    assert finding == "1 special records of unknown kind, first at record 33 (channel field 40)"


@pytest.mark.parametrize(
    ("stated", "match"), [(0, "states no record count"), (900, "more follow from record 900")]
)
def test_record_count(tmp_path, stated, match):
    found = findings(tmp_path, encode(poisson_events(), T2_TYPE), n_records=stated)
    assert match in found[0]


def test_rate_step_and_silence(tmp_path):
    events = poisson_events()
    late = [Event(e.channel, e.clock + 3_000_000) for e in events[5_000:]]
    silence, *_ = findings(tmp_path, encode(events[:5_000] + late, T2_TYPE))
    silent_record = 5_000 + late[0].clock // WRAP
    assert silence.startswith("silence of 3") and f"before record {silent_record}:" in silence
    slow = poisson_events()[:4_000]
    slow += [Event(0, slow[-1].clock + 200_000 * k) for k in range(1, 4_000)]
    (step,) = findings(tmp_path, encode(slow, T2_TYPE))
    assert step.startswith("rate step near record")
