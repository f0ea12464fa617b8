"""Plain numpy: binary search, all pairs in memory, bincount."""

import numpy as np
from tag_data import BIN_PS, WINDOW_PS, Cached, serve, split

PIECE = 1_000_000  # starts at a time: all pairs at once would not fit into memory


def correlate(starts, stops):
    counts = np.zeros(2 * WINDOW_PS // BIN_PS, np.int64)
    for i in range(0, starts.size, PIECE):
        part = starts[i : i + PIECE]
        first = np.searchsorted(stops, part - WINDOW_PS)
        number = np.searchsorted(stops, part + WINDOW_PS) - first
        start = np.repeat(np.arange(part.size), number)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        lags = stops[first[start] + within] - part[start]
        counts += np.bincount((lags + WINDOW_PS) // BIN_PS, minlength=counts.size)
    return counts


if __name__ == "__main__":
    data = Cached(split)
    serve(np.__version__, lambda n: correlate(*data(n)))
