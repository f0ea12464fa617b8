"""Many accumulators on one stream: one pass, each block in turn through all stages to all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from labctl.timetags.block import TagBlock
from labctl.timetags.snapshot import Handover
from labctl.timetags.stages import Stage
from labctl.timetags.stream import Accumulator, Watermark


class Pipeline:
    """Feeds each block, after it went through the stages, to all accumulators.

    stages: applied in this order. threads: how many accumulators work at the same time; their compiled loops
    leave the interpreter free. A pipeline is an accumulator itself, so that stages can apply to some only.
    """

    def __init__(self, *accumulators: Accumulator, stages: Sequence[Stage] = (), threads: int = 1) -> None:
        self.accumulators = accumulators
        self._stages = tuple(stages)
        self._input, self._output = Watermark(), Watermark()
        self._threads = threads
        self._handover = Handover(self._copy)

    @property
    def live_time_ps(self) -> int:
        """Time that came out of the stages so far without gaps, in ps."""
        return self._output.live_time_ps

    def update(self, block: TagBlock) -> None:
        """Take the next block; ValueError, with none fed, when it overlaps, goes back or has a new epoch."""
        with self._handover.changing():
            self._input.accept(block)
            for stage in self._stages:
                block = stage.process(block)
            self._output.accept(block)
            self._feed(block)

    def snapshot(self) -> tuple[Accumulator, ...]:
        """Copies of all accumulators after the same block, for any thread; the pipeline does not wait."""
        return self._handover.take()

    def _feed(self, block: TagBlock) -> None:
        if self._threads == 1:
            for accumulator in self.accumulators:
                accumulator.update(block)
            return
        with ThreadPoolExecutor(self._threads, "accumulators") as pool:
            for done in [pool.submit(accumulator.update, block) for accumulator in self.accumulators]:
                done.result()

    def _copy(self) -> tuple[Accumulator, ...]:
        return copy.deepcopy(self.accumulators)
