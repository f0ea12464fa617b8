"""Pixels of a raster: photons go where the markers say, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.timetags import Counts, Gap, Raster, TagBlock
from tests.timetags.streams import cut_at

LINE, FRAME, PHOTON = 100, 101, 1


def scan():
    """Two frames of 3 lines of 4 pixels of 10 ps; pixel (r, c) of a frame gets r + c photons at its end."""
    tags = []
    for frame in range(2):
        tags.append((frame * 500, FRAME))
        for row in range(3):
            begin = frame * 500 + 20 + row * 100
            tags.append((begin, LINE))
            tags += [(begin + 10 * c + 9, PHOTON) for c in range(4) for _ in range(row + c)]
            tags.append((begin + 70, PHOTON))  # on the way back
    tags.append((400, LINE))  # a line too many
    tags.append((401, PHOTON))
    tags.sort()
    times, channels = zip(*tags, strict=True)
    return TagBlock(np.array(times), np.array(channels, np.int32), 0, 1_000)


EXPECTED = [[0, 2, 4, 6], [2, 4, 6, 8], [4, 6, 8, 10]]


@given(st.lists(st.integers(0, 1_000), max_size=6).map(sorted))
def test_lines_with_dwell(cuts):
    raster = Raster(lambda: Counts([PHOTON]), (3, 4), LINE, dwell_ps=10, frame=FRAME)
    for block in cut_at(scan(), cuts):
        raster.update(block)
    assert raster.image(lambda pixel: pixel.counts[PHOTON]).tolist() == EXPECTED
    assert (raster.image(lambda pixel: pixel.live_time_ps) == 20).all()
    assert raster.live_time_ps == 1_000


def test_a_marker_per_pixel_goes_round():
    times = np.arange(0, 90, 10)  # nine markers over two rows of two pixels: two rounds and one pixel
    photons = times[::2] + 3
    channels = np.tile(np.array([LINE, PHOTON, LINE], np.int32), 5)[:14]
    block = TagBlock(np.sort(np.concatenate([times, photons])), channels, 0, 90)
    raster = Raster(lambda: Counts([PHOTON]), (2, 2), LINE)
    raster.update(block)
    assert raster.image(lambda pixel: pixel.counts[PHOTON]).tolist() == [[3, 0], [2, 0]]
    assert raster.pixels[0, 0].live_time_ps == 30


def test_gaps_take_live_time_from_their_pixels():
    block = TagBlock(
        np.array([0, 5, 15]), np.array([LINE, PHOTON, PHOTON], np.int32), 0, 40, gaps=(Gap(12, 18),)
    )
    raster = Raster(lambda: Counts([PHOTON]), (2, 2), LINE, dwell_ps=10)
    raster.update(block)
    image = raster.image(lambda pixel: pixel.live_time_ps)
    np.testing.assert_array_equal(image, [[10, 4], [np.nan, np.nan]])
    assert raster.pixels[0, 1].counts == {PHOTON: 0}


def test_refuses_a_raster_without_pixels():
    with pytest.raises(ValueError, match="no pixels"):
        Raster(lambda: Counts([1]), (0, 4), LINE)
