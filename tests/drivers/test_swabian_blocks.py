"""Buffers of a misbehaving tagger."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drivers.taggers.sim import swabian_api
from drivers.taggers.swabian_blocks import BlockMaker
from labctl.instruments.errors import (
    DataLoss,
    ProtocolError,
)
from labctl.timetags.block import Gap


def buffer(times: list[int], now: int, *, kinds: list[int] | None = None, **changes: Any) -> SimpleNamespace:
    kinds = kinds or [0] * len(times)
    arrays = {
        "getTimestamps": np.array(times, np.int64),
        "getChannels": np.array(changes.pop("channels", [1] * len(times)), np.int32),
        "getEventTypes": np.array(kinds, np.uint8),
        "getMissedEvents": np.array(changes.pop("missed", [0] * len(times)), np.uint16),
    }
    getters = {name: (lambda array=array: array) for name, array in arrays.items()}
    fields = {"size": len(times), "hasOverflows": any(kinds), "tStart": 100, "tGetData": now, **changes}
    return SimpleNamespace(**fields, **getters)


def maker(duration_ps: int = 1000, capacity: int = 100) -> BlockMaker:
    return BlockMaker("t", swabian_api.TagType, capacity=capacity, duration_ps=duration_ps, epoch=3)


def test_tags_beyond_a_watermark_wait_for_the_next_block() -> None:
    blocks = maker()
    first = blocks.convert(buffer([150, 200, 210], 200))
    second = blocks.convert(buffer([220], 300))
    assert first is not None and second is not None
    assert first.times_ps.tolist() == [150] and second.times_ps.tolist() == [200, 210, 220]
    assert blocks.convert(buffer([], 300)) is None and blocks.remaining_ps == 800
    last = blocks.convert(buffer([1099, 1100], 5000))
    assert last is not None and last.times_ps.tolist() == [1099] and last.end_ps == 1100


@pytest.mark.parametrize(
    "bad", [buffer([150, 140], 200), buffer([99], 200), buffer([], 50)], ids=["unsorted", "early", "back"]
)
def test_tags_out_of_order_are_an_error(bad: SimpleNamespace) -> None:
    with pytest.raises(ProtocolError, match="not in time order"):
        maker().convert(bad)


def test_an_unsorted_tail_beyond_the_end_is_an_error_too() -> None:
    with pytest.raises(ProtocolError):
        maker(50).convert(buffer([120, 160, 140], 200))


def test_an_overflow_that_lasts_longer_than_its_buffer() -> None:
    blocks = maker()
    begun = buffer([120, 150, 150], 200, kinds=[0, 2, 4], channels=[1, 0, 2], missed=[0, 0, 7])
    first = blocks.convert(begun)
    second = blocks.convert(buffer([], 300))
    third = blocks.convert(buffer([330, 350], 400, kinds=[3, 0], channels=[0, 1]))
    assert first is not None and second is not None and third is not None
    assert first.gaps == (Gap(150, 200, {2: 7}),) and first.times_ps.tolist() == [120]
    assert second.gaps == (Gap(200, 300),) and third.gaps == (Gap(300, 330),)
    assert third.times_ps.tolist() == [350]


@pytest.mark.parametrize(
    "spoilt",
    [
        buffer([150], 200, kinds=[4], channels=[2], missed=[7]),
        buffer([150], 200, hasOverflows=True),
    ],
)
def test_a_loss_without_a_place_spoils_the_whole_buffer(spoilt: SimpleNamespace) -> None:
    block = maker().convert(spoilt)
    assert block is not None and block.live_time_ps == 0


def test_a_full_buffer_that_ends_within_an_overflow_counts_the_time_once() -> None:
    block = maker(capacity=2).convert(buffer([120, 150], 200, kinds=[0, 2]))
    assert block is not None and block.live_time_ps == 50


def test_an_error_event_is_data_loss() -> None:
    with pytest.raises(DataLoss, match="reference clock"):
        maker().convert(buffer([150], 200, kinds=[1]))
