"""tttrlib, C++: `linear` has linear lags and its method laurence, `wide` 1 ns to 1 s and its method wahl."""

import sys
from importlib.metadata import version

import numpy as np
import tttrlib
from tag_data import BIN_PS, WINDOW_PS, Cached, serve, split

if __name__ == "__main__":

    def prepare(n):
        a, b = split(n)
        unit = BIN_PS
        same = min(a.size, b.size)  # it writes past its memory when the second channel is longer
        return (a[:same] // unit).astype(np.uint64), (b[:same] // unit).astype(np.uint64)

    data = Cached(prepare)

    def correlate(n):
        a, b = data(n)
        correlator = tttrlib.Correlator()
        wide = sys.argv[2] == "wide"
        correlator.method = "wahl" if wide else "laurence"
        correlator.n_bins, correlator.n_casc = (16, 27) if wide else (WINDOW_PS // BIN_PS, 1)
        correlator.set_macrotimes(a, b)
        correlator.set_weights(np.ones(a.size), np.ones(b.size))
        return correlator.correlation

    serve(version("tttrlib"), correlate)
