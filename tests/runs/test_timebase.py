"""One time for all tags of a run, whatever the tagger's zero is."""

import numpy as np

from labctl.runs.timebase import LEAST_PAUSE_PS, TimeBase
from labctl.timetags import Gap, TagBlock


def block(begin_ps, end_ps, epoch=1, gaps=()):
    return TagBlock(np.array([begin_ps]), np.array([1]), begin_ps, end_ps, gaps, epoch)


def test_the_first_epoch_is_left_as_it_is():
    base = TimeBase()
    first, second = block(100, 200, epoch=7), block(500, 600, epoch=7)
    assert base.align(first, 0.0) is first
    assert base.align(second, 1.0) is second


def test_a_new_epoch_goes_on_behind_the_last_one_after_the_pause():
    base = TimeBase()
    base.align(block(1000, 2000, epoch=1), 5.0)
    moved = base.align(block(50, 150, epoch=2, gaps=(Gap(60, 70, {1: 3}),)), 5.001)
    begin_ps = 2000 + 10**9 - 100
    assert (moved.begin_ps, moved.end_ps, moved.epoch) == (begin_ps, begin_ps + 100, 1)
    assert moved.times_ps.tolist() == [begin_ps]
    assert moved.gaps == (Gap(begin_ps + 10, begin_ps + 20, {1: 3}),)
    assert base.align(block(150, 250, epoch=2), 9.0).begin_ps == moved.end_ps


def test_a_resumed_run_goes_on_behind_what_was_recorded_with_its_epoch():
    base = TimeBase(end_ps=10**12, epoch=4, at_s=100.0)
    moved = base.align(block(0, 100, epoch=4), 3.0)  # the clock of the computer began anew
    assert (moved.begin_ps, moved.epoch) == (10**12 + LEAST_PAUSE_PS, 4)
