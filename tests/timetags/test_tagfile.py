"""Tag files: every record type there and back, genuine recordings, and damaged files."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import ptufile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import Counts, TagFileError, read_tags
from tests.timetags.ptu_writer import FAMILIES, MARKER, PICOHARP, SYNC, T2, T3, Event, encode, write_ptu

# jumps over many wraps of every counter, and just before, on and after a wrap
T2_STEPS = st.sampled_from([0, 1, 5, 16, 33_551_999, 33_552_000, 33_554_431, 33_554_432, 210_698_240, 10**9])
T3_STEPS = st.sampled_from([0, 0, 1, 3, 1023, 1024, 1025, 65_535, 65_536, 65_537, 200_000])


@st.composite
def event_lists(draw, family: int, mode: int, max_size: int = 40) -> list[Event]:
    channels = [1, 2, 3] if family == PICOHARP else [0, 1, 5, 15, 62]
    markers = [MARKER + 1, MARKER + 2, MARKER + 15]
    special = [*markers, SYNC] if mode == T2 and family != PICOHARP else markers
    steps = draw(st.lists(T2_STEPS if mode == T2 else T3_STEPS, max_size=max_size))
    clock, events = 0, []
    for step in steps:
        clock += step
        channel = draw(st.sampled_from(channels + special))
        photon = channel < SYNC
        if channel > MARKER and mode == T2 and family == PICOHARP:
            clock += -clock % 210_698_240 % 16  # the marker bits take the place of the low time bits
        largest = 0xFFF if family == PICOHARP else 0x7FFF
        dtime = draw(st.sampled_from([0, 1, 1000, largest])) if mode == T3 and photon else 0
        events.append(Event(channel, clock, dtime))
    return events


def aligned(events: list[Event]) -> list[Event]:
    """PicoHarp T2 markers have no low time bits: what the file can say about them."""
    wrap = 210_698_240
    return [Event(e.channel, e.clock - e.clock % wrap % 16) if e.channel > MARKER else e for e in events]


def all_tags(tagfile, max_tags):
    blocks = list(tagfile.blocks(max_tags))
    assert blocks[0].begin_ps == 0
    assert all(one.end_ps == two.begin_ps for one, two in pairwise(blocks))
    return np.concatenate([b.times_ps for b in blocks]), np.concatenate([b.channels for b in blocks])


@pytest.mark.parametrize("name", FAMILIES)
@given(data=st.data(), merge=st.booleans(), max_tags=st.integers(1, 7))
def test_t2_round_trip(name, tmp_path_factory, data, merge, max_tags):
    family = FAMILIES[name]
    events = data.draw(event_lists(family, T2))
    if family == PICOHARP:
        events = sorted(aligned(events), key=lambda e: e.clock)
    path = tmp_path_factory.getbasetemp() / f"{name}.ptu"
    write_ptu(path, encode(events, family | T2, merge), family | T2, global_resolution_s=4e-12)
    tagfile = read_tags(path)
    times, channels = all_tags(tagfile, max_tags)
    assert tagfile.mode == "T2" and tagfile.resolution_ps == 4.0 and tagfile.sync_period_ps is None
    assert sorted(zip(times.tolist(), channels.tolist(), strict=True)) == sorted(
        (4 * e.clock, e.channel) for e in events
    )


@pytest.mark.parametrize("name", FAMILIES)
@given(data=st.data(), merge=st.booleans(), max_tags=st.integers(1, 7))
def test_t3_round_trip(name, tmp_path_factory, data, merge, max_tags):
    family = FAMILIES[name]
    events = data.draw(event_lists(family, T3))
    path = tmp_path_factory.getbasetemp() / f"{name}.ptu"
    records = encode(events, family | T3, merge)
    write_ptu(path, records, family | T3, global_resolution_s=12.5e-9, resolution_s=25e-12)
    tagfile = read_tags(path)
    assert (tagfile.mode, tagfile.resolution_ps, tagfile.sync_period_ps) == ("T3", 25.0, 12_500.0)
    pieces = list(tagfile.t3_records(max_tags))
    found = [
        Event(*row)
        for piece in pieces
        for row in zip(piece.channels.tolist(), piece.nsync.tolist(), piece.dtimes.tolist(), strict=True)
    ]
    assert found == events
    times, channels = all_tags(tagfile, max_tags)
    expected = sorted((e.clock * 12_500 + e.dtime * 25, e.channel) for e in events)
    assert sorted(zip(times.tolist(), channels.tolist(), strict=True)) == expected
    assert times.tolist() == [t for t, _ in expected]


@pytest.mark.parametrize("max_tags", [1, 10])
def test_picoharp_markers_never_precede_the_tag_before_them(tmp_path, max_tags):
    # the marker at 1007 is stored as 992 plus its bits
    events = [Event(1, 1_005), Event(MARKER + 3, 1_007), Event(MARKER + 1, 1_008), Event(2, 1_009)]
    path = write_ptu(tmp_path / "a.ptu", encode(events, PICOHARP | T2), PICOHARP | T2)
    times, channels = all_tags(read_tags(path), max_tags)
    assert times.tolist() == [1_005, 1_005, 1_008, 1_009]
    assert channels.tolist() == [1, MARKER + 3, MARKER + 1, 2]


def test_t3_times_of_a_fractional_period_are_rounded_once(tmp_path):
    events = [Event(0, 1, 3), Event(1, 700_001, 7)]
    family = FAMILIES["MultiHarp"]
    path = write_ptu(
        tmp_path / "a.ptu", encode(events, family | T3), family | T3, global_resolution_s=1 / 76.3e6,
        resolution_s=2.5e-12,
    )  # fmt: skip
    times, _ = all_tags(read_tags(path), 1)
    period = 1e12 / 76.3e6
    assert times.tolist() == [round(period + 7.5), round(700_001 * period + 17.5)]


def by_ptufile(path: Path):
    with ptufile.PtuFile(path) as file:
        records = file.decode_records()
    photons = records[records["channel"] >= 0]
    return photons["time"].astype(np.int64), photons["channel"].astype(np.int32)


@pytest.mark.parametrize("max_tags", [1_000, 1_000_000])
def test_genuine_t2_recording_decodes_as_by_ptufile(real_data, max_tags):
    path = real_data / "hydraharp_v30_t2.ptu"
    tagfile = read_tags(path)
    times, channels = all_tags(tagfile, max_tags)
    expected_times, expected_channels = by_ptufile(path)
    np.testing.assert_array_equal(times, expected_times)
    np.testing.assert_array_equal(channels, expected_channels)
    assert tagfile.records == 435_319 and tagfile.channels == {0: 305_565}
    assert tagfile.duration_s == pytest.approx(5.0, abs=1e-3)
    assert tagfile.header["HW_SerialNo"] == "1030757" and tagfile.header["HWInpChan_Enabled[1]"] is True


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "PicoHarp"])
def test_synthetic_t2_decodes_as_by_ptufile(name, tmp_path):
    rng = np.random.default_rng(4)
    clocks = np.cumsum(rng.integers(0, 40_000_000, 500)).tolist()
    events = [Event(int(c), t) for c, t in zip(rng.integers(0, 4, 500), clocks, strict=True)]
    path = write_ptu(tmp_path / "a.ptu", encode(events, FAMILIES[name] | T2), FAMILIES[name] | T2)
    times, channels = all_tags(read_tags(path), 100)
    expected_times, expected_channels = by_ptufile(path)
    np.testing.assert_array_equal(times, expected_times)
    np.testing.assert_array_equal(channels, expected_channels)


def listing(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", dtype=np.int64)


def test_genuine_t2_listing(real_data):
    listed = listing(real_data / "hydraharp_v30_t2.ptu.data")
    block = next(read_tags(real_data / "hydraharp_v30_t2.ptu").blocks())
    n = len(listed)
    np.testing.assert_array_equal(block.channels[:n], listed[:, 0])
    # the listing was made with the wrap of HydraHarp V1 (33 552 000) where the records say V2 (33 554 432)
    wraps = block.times_ps[:n] // 33_554_432
    np.testing.assert_array_equal(block.times_ps[:n] - wraps * (33_554_432 - 33_552_000), listed[:, 1])


def test_genuine_ht3_recording(real_data):
    tagfile = read_tags(real_data / "hydraharp_v20.ht3")
    listed = listing(real_data / "hydraharp_v20.ht3.data")
    records = next(tagfile.t3_records())
    n = len(listed)
    np.testing.assert_array_equal(records.channels[:n], listed[:, 0])
    np.testing.assert_array_equal(records.nsync[:n], listed[:, 1])
    np.testing.assert_array_equal(records.dtimes[:n] * 16, listed[:, 2])
    assert tagfile.channels == {0: 7102, 1: 26648, 2: 3085, 3: 7306}
    assert (tagfile.records, tagfile.mode, tagfile.resolution_ps) == (53_606, "T3", 16.0)
    assert tagfile.sync_period_ps == pytest.approx(1e12 / 998_898)
    counts = Counts([0, 1, 2, 3])
    for block in tagfile.blocks(500):
        counts.update(block)
    assert counts.counts == tagfile.channels


T2_TYPE = FAMILIES["HydraHarpV2"] | T2


def small_file(path: Path, **options) -> Path:
    events = [Event(0, 10 * k) for k in range(20)]
    return write_ptu(path, encode(events, T2_TYPE), options.pop("record_type", T2_TYPE), **options)


def test_truncated_files_are_refused(tmp_path):
    whole = small_file(tmp_path / "a.ptu").read_bytes()
    (tmp_path / "short.ptu").write_bytes(whole[:-6])
    with pytest.raises(
        TagFileError, match=r"short.ptu: truncated, the header says 20 records .* holds 18 .*record 18"
    ):
        read_tags(tmp_path / "short.ptu")
    (tmp_path / "header.ptu").write_bytes(whole[:300])
    with pytest.raises(TagFileError, match=r"truncated header, the file ends at byte 300"):
        read_tags(tmp_path / "header.ptu")


def test_truncated_genuine_ht3_is_refused(real_data, tmp_path):
    whole = (real_data / "hydraharp_v20.ht3").read_bytes()
    for size, match in [(690, "truncated header"), (780, "truncated or damaged"), (1_001, "holds 50 ")]:
        (tmp_path / "a.ht3").write_bytes(whole[:size])
        with pytest.raises(TagFileError, match=match):
            read_tags(tmp_path / "a.ht3")
    (tmp_path / "a.ht3").write_bytes(whole.replace(b"2.0\0", b"1.0\0", 1))
    with pytest.raises(TagFileError, match=r"format 1.0 is not supported"):
        read_tags(tmp_path / "a.ht3")


def test_ht2_container(real_data, tmp_path):
    whole = bytearray((real_data / "hydraharp_v20.ht3").read_bytes())
    whole[340:344] = struct.pack("<i", 2)
    whole[792:800] = struct.pack("<q", 3)
    whole[800:] = struct.pack("<3I", 7, 0xFE000002, 1 << 25 | 9)
    (tmp_path / "a.ht2").write_bytes(whole)
    tagfile = read_tags(tmp_path / "a.ht2")
    times, channels = all_tags(tagfile, 10)
    assert (tagfile.mode, times.tolist(), channels.tolist()) == ("T2", [7, (2 << 25) + 9], [0, 1])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PicoHarp 300\0", "PT2/PT3"),
        (b"PQHISTO\0", "PHU histogram"),
        (b"hello world", "unknown file type, it begins with b'hello wo'"),
    ],
)
def test_foreign_files_are_named(tmp_path, content, match):
    (tmp_path / "foreign.bin").write_bytes(content)
    with pytest.raises(TagFileError, match=match) as caught:
        read_tags(tmp_path / "foreign.bin")
    assert "supported are PTU" in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_record_type_is_named(tmp_path):
    with pytest.raises(TagFileError, match="unknown RecType 0x00010208"):
        read_tags(small_file(tmp_path / "a.ptu", record_type=0x00010208))


def test_missing_and_impossible_header_values_are_named(tmp_path):
    whole = small_file(tmp_path / "a.ptu").read_bytes()
    (tmp_path / "b.ptu").write_bytes(
        whole.replace(b"MeasDesc_GlobalResolution", b"MeasDesc_GlobalResolutiom")
    )
    with pytest.raises(TagFileError, match="no MeasDesc_GlobalResolution"):
        read_tags(tmp_path / "b.ptu")
    with pytest.raises(TagFileError, match="GlobalResolution = 0"):
        read_tags(small_file(tmp_path / "c.ptu", global_resolution_s=0.0))
    (tmp_path / "d.ptu").write_bytes(
        whole.replace(struct.pack("<I", 0x20000008), struct.pack("<I", 0x7777), 1)
    )
    with pytest.raises(TagFileError, match="unknown type 0x00007777"):
        read_tags(tmp_path / "d.ptu")


def test_a_clock_that_goes_back_is_located(tmp_path):
    records = [0xFE000001, 500, 400, 600]
    path = write_ptu(tmp_path / "a.ptu", records, T2_TYPE)
    with pytest.raises(TagFileError, match=r"record 2 goes back by 100 ps"):
        list(read_tags(path).blocks())


def test_an_empty_file_has_one_empty_block(tmp_path):
    tagfile = read_tags(write_ptu(tmp_path / "a.ptu", [], T2_TYPE))
    (block,) = tagfile.blocks()
    assert (len(block), block.begin_ps, block.end_ps, tagfile.channels) == (0, 0, 0, {})


def test_t2_has_no_sync_numbers(tmp_path):
    with pytest.raises(ValueError, match="T2 file"):
        next(read_tags(small_file(tmp_path / "a.ptu")).t3_records())
