"""From stored tags back to histograms: the same accumulators as live, fed from the file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.store import Acquisition, RunData
from labctl.timetags import Accumulator, IntensityTrace, SyncedTrace


def replay(
    data: RunData, acquisitions: Acquisition | Sequence[Acquisition], *accumulators: Accumulator
) -> None:
    """Feed the tags of one acquisition, or of several in the order of time, to the accumulators."""
    chosen = [acquisitions] if isinstance(acquisitions, Acquisition) else acquisitions
    for block in data.tag_blocks(*chosen):
        for accumulator in accumulators:
            accumulator.update(block)


def counts_per_period(
    data: RunData, acquisition: Acquisition, channels: list[int], sync: int, period_s: float
) -> tuple[NDArray[np.int64], bool]:
    """Counts in the consecutive intervals between sync tags, and whether there were sync tags at all.

    Without sync tags the acquisition is cut into intervals of the same length that begin with it. That
    is the right thing for a source that did not fire: the intervals are then only bins.
    """
    period_ps = round(period_s * 1e12)
    synced = SyncedTrace(channels, sync, period_ps)
    free = IntensityTrace(channels, period_ps)
    replay(data, acquisition, synced, free)
    if len(synced.counts) >= 0.5 * len(free.counts) > 0:
        return np.asarray(synced.counts, dtype=np.int64), True
    return np.asarray(free.counts, dtype=np.int64), False
