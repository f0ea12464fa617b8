"""labctl's side: all pairs from memory, from a PTU file, and over nine decades of lag."""

import sys

import numpy as np
from tag_data import BIN_PS, FOLDER, WINDOW_PS, Cached, serve

import labctl
from labctl.timetags import Correlation, LogCorrelation, MultiTau, TagBlock, log_edges, read_tags
from labctl.timetags.pairs import PairHistogram


def prepare(n):
    return np.load(FOLDER / "times.npy")[:n], np.load(FOLDER / "channels.npy")[:n]


def all_pairs(n):
    histogram = PairHistogram((0, 1), WINDOW_PS, BIN_PS)
    histogram.feed(*data(n))
    return histogram.read()


def from_file(n):
    correlation = Correlation((0, 1), WINDOW_PS, BIN_PS)
    for block in read_tags(FOLDER / f"tags_{n}.ptu").blocks(1 << 18):
        correlation.update(block)
    return correlation.g2(0, 1)


def _over(accumulator, n):
    times, channels = data(n)
    accumulator.update(TagBlock(times, channels, int(times[0]), int(times[-1]) + 1))
    return accumulator.counts


TASKS = {
    "pairs": all_pairs,
    "file": from_file,
    "log": lambda n: _over(LogCorrelation(0, 1, log_edges(1_000, 10**12)), n),
    "multi-tau": lambda n: _over(MultiTau(0, 1, 1_000, 10**12), n),
}

if __name__ == "__main__":
    data = Cached(prepare)
    serve(labctl.__version__, TASKS[sys.argv[2]])
