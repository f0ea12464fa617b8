"""Small runs to write and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from labctl.store import RunData, RunWriter
from labctl.timetags.block import TagBlock

HEADER: dict[str, Any] = {
    "parameters": {"dwell_s": 1.0},
    "config": "experiment: delay_scan\ndwell: 1 s\n",
    "seed": 7,
    "twin_id": "twin-1",
    "default_plot": {"sweep": "delays", "axis": "delay", "signal": "rate", "errors": "rate_error"},
}
CHANNELS = {1: "DET-A", 2: "DET-B", 4: "MIR-SYNC", -5: "MIR-GATE closes"}


def make_block(seed: int, size: int, begin_ps: int = 0, mean_step_ps: int = 30_000_000) -> TagBlock:
    """Random tags of channels 1, 2, 4, -5."""
    rng = np.random.default_rng(seed)
    times_ps = begin_ps + np.cumsum(rng.integers(0, 2 * mean_step_ps, size))
    end_ps = int(times_ps[-1]) + 1 if size else begin_ps
    return TagBlock(times_ps, rng.choice([1, 2, 4, -5], size), begin_ps, end_ps)


def write_scan(root: Path, points: int = 5, tags: int = 200) -> tuple[RunWriter, list[TagBlock]]:
    """A small delay scan with one acquisition for each point, not finished."""
    writer = RunWriter.create(root, "delay_scan", HEADER)
    writer.snapshot("before", {"laser": {"power_w": 1e-3}})
    writer.event("started", 0.0, operator="test")
    blocks = []
    for index, delay in enumerate(np.random.default_rng(1).permutation(points)):
        acquisition = writer.begin_acquisition(CHANNELS, "delays", index, float(index))
        blocks.append(make_block(index, tags))
        writer.tags(acquisition, blocks[-1])
        writer.end_acquisition(acquisition, blocks[-1].live_time_ps)
        values = {"delay": delay * 1e-12, "rate": 3e4 - delay, "rate_error": 170.0}
        values["reference"] = index % 4 == 3
        units = {"delay": "s", "rate": "1/s", "rate_error": "1/s"}
        writer.row("delays", index, 0, values, units, index + 0.5)
    writer.twin({"lifetime_s": 1e-9})
    return writer, blocks


def read_all_blocks(run: RunData) -> list[TagBlock]:
    return [block for acquisition in run.acquisitions for block in run.tag_blocks(acquisition)]


def assert_same_blocks(found: list[TagBlock], wanted: list[TagBlock]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.times_ps, other.times_ps)
        np.testing.assert_array_equal(one.channels, other.channels)
        assert (one.begin_ps, one.end_ps, one.gaps, one.epoch) == (
            *(other.begin_ps, other.end_ps, other.gaps, other.epoch),
        )
