"""Whatever is appended comes back bit for bit, from the journal and from the file."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.store import RunWriter, StoreError, open_run
from labctl.store.codec import CHUNK, ChannelTable, ChunkCodec, pack
from labctl.timetags.block import Gap, TagBlock

from .helpers import assert_same_blocks, make_block

TIMES = st.integers(-(2**60), 2**62)
CHANNEL = st.sampled_from([1, 2, 4, -5, 6, 127, 128, -129, 40_000, -(2**31), 2**31 - 1])


@st.composite
def small_blocks(draw: st.DrawFn) -> TagBlock:
    times = sorted(draw(st.lists(TIMES, max_size=12)))
    if draw(st.booleans()):
        times = sorted(times + times)  # ties
    channels = draw(st.lists(CHANNEL, min_size=len(times), max_size=len(times)))
    begin_ps = times[0] if times else draw(TIMES)
    end_ps = times[-1] + 1 if times else begin_ps + draw(st.integers(0, 10**15))
    missed = st.dictionaries(CHANNEL, TIMES, max_size=2)
    gaps = tuple(draw(st.lists(st.builds(Gap, TIMES, TIMES, missed), max_size=2)))
    epoch = draw(st.integers(0, 3))
    return TagBlock(np.array(times, np.int64), np.array(channels, np.int32), begin_ps, end_ps, gaps, epoch)


large_blocks = st.builds(
    make_block,
    st.integers(0, 99),
    st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7]),
    st.just(-(10**15)),
    st.sampled_from([1, 30_000_000, 10**10]),
)
blocks = st.one_of(small_blocks(), small_blocks(), small_blocks(), large_blocks)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
number = st.one_of(st.floats(width=64), st.integers(-(2**53), 2**53), st.booleans())
rows = st.dictionaries(st.sampled_from(["rate", "x", "n"]), number, max_size=3)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(blocks, st.tuples(rows, text), st.just("die")), max_size=10))
def test_any_sequence_comes_back(operations: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as root:
        writer = RunWriter.create(Path(root), "any", {})
        acquisitions = [writer.begin_acquisition({1: text}, "s", n, 0.0) for n, text in enumerate(["a", "ü"])]
        given_blocks: dict[int, list[TagBlock]] = {number: [] for number in acquisitions}
        given_rows = []
        for position, operation in enumerate(operations):
            if isinstance(operation, str):
                writer.close()
                writer = RunWriter.resume(writer.directory)
            elif isinstance(operation, TagBlock):
                given_blocks[acquisitions[position % 2]].append(operation)
                writer.tags(acquisitions[position % 2], operation)
            else:
                values, note = operation
                given_rows.append({**values, "note": note})
                writer.row("s", position, 0, given_rows[-1], {}, 0.0)
        writer.flush()
        live = open_run(writer.directory)
        check(live, given_blocks, given_rows)
        finished = open_run(writer.finish("success"))
        check(finished, given_blocks, given_rows)
        assert live.acquisitions == finished.acquisitions


def check(run: Any, wanted_blocks: dict[int, list[TagBlock]], wanted_rows: list[dict[str, Any]]) -> None:
    for number, wanted in wanted_blocks.items():
        assert_same_blocks(list(run.tag_blocks(number)), wanted)
    for row, wanted_row in enumerate(wanted_rows):
        found = {name: values[row] for name, values in run.rows("s").items()}
        for name, value in wanted_row.items():
            assert found[name] == value or (math.isnan(value) and math.isnan(found[name]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_steps_are_exact_for_any_int64(times: list[int]) -> None:
    array = np.array(times, np.int64)
    tags = pack(array, np.zeros(array.size, np.uint8))
    np.testing.assert_array_equal(tags.times_ps(), array)


def test_chunks_come_back_from_the_filter() -> None:
    codec, table = ChunkCodec(), ChannelTable()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        times = rng.integers(-(2**63), 2 ** (20 * (seed + 1)), CHUNK - seed)
        channels = rng.choice([1, -1024, 1025, -(2**31), 2**31 - 1], CHUNK - seed).astype(np.int32)
        tags = pack(times, table.places(channels))
        found = codec.decode(codec.encode(tags))
        assert found.crc() == codec.encode(tags).crc == tags.padded().crc()
        np.testing.assert_array_equal(found.times_ps()[: times.size], times)
        np.testing.assert_array_equal(table.channels(found.places)[: times.size], channels)


def test_poisson_tags_at_1_mcps_are_small() -> None:
    rng = np.random.default_rng(1)
    for channels in (2, 4, 8):
        times = np.cumsum(np.rint(rng.exponential(1e6, CHUNK)).astype(np.int64))
        chunk = ChunkCodec().encode(pack(times, rng.integers(0, channels, CHUNK).astype(np.uint8)))
        bits = 8 * (len(chunk.steps) + len(chunk.places)) / CHUNK
        assert bits <= 22.8 + np.log2(channels) + 0.3


def test_too_many_channels_are_refused() -> None:
    table = ChannelTable(range(255))
    with pytest.raises(StoreError, match="255 channels at most"):
        table.places(np.array([3, 255], np.int32))
