"""One time for all tags of a run.

A tagger that is connected again, in a resumed run or after it was lost, counts its picoseconds from a new
zero and says so by another epoch. Accumulators and analyses want one time that only goes forward; so blocks
of a new epoch are moved behind the last one, by the bench time that has passed in between.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.timetags import Gap, TagBlock

LEAST_PAUSE_PS = 1_000_000
"""A new epoch begins at least this much behind the last one: 1 us, longer than any correlation in a block."""


@dataclass
class _Shift:
    epoch: int
    offset_ps: int


class TimeBase:
    """Shifts the blocks of one tagger into the time of the run.

    end_ps: where the last block of an interrupted run ended, None for a new run; epoch: its epoch; at_s: the
    bench time then.
    """

    def __init__(self, end_ps: int | None = None, epoch: int = 0, at_s: float = 0.0) -> None:
        self._end_ps = end_ps
        self._epoch = epoch
        self._at_s = at_s
        self._shift: _Shift | None = None

    def is_new(self, block: TagBlock) -> bool:
        """Whether the tagger counts from another zero since this block."""
        return self._shift is None or self._shift.epoch != block.epoch

    def align(self, block: TagBlock, now_s: float) -> TagBlock:
        """`block`, received at the bench time `now_s`, in the time of the run.

        It is returned as it is, as long as the tagger's first epoch goes on.
        """
        if self._shift is None or self.is_new(block):
            self._shift = self._new_shift(block, now_s)
        moved = _moved(block, self._shift.offset_ps, self._epoch)
        self._end_ps, self._at_s = moved.end_ps, now_s
        return moved

    def _new_shift(self, block: TagBlock, now_s: float) -> _Shift:
        if self._end_ps is None:
            self._epoch = block.epoch
            return _Shift(block.epoch, 0)
        pause_ps = round((now_s - self._at_s) * 1e12) - block.duration_ps
        return _Shift(block.epoch, self._end_ps + max(pause_ps, LEAST_PAUSE_PS) - block.begin_ps)


def _moved(block: TagBlock, offset_ps: int, epoch: int) -> TagBlock:
    if offset_ps == 0 and epoch == block.epoch:
        return block
    gaps = tuple(Gap(gap.begin_ps + offset_ps, gap.end_ps + offset_ps, gap.missed) for gap in block.gaps)
    return TagBlock(
        block.times_ps + offset_ps,
        block.channels,
        block.begin_ps + offset_ps,
        block.end_ps + offset_ps,
        gaps,
        epoch,
    )
