"""multipletau: multi-tau on a dense trace, here of 1 us bins; 1 ns bins of the same record fit no memory."""

from importlib.metadata import version

import multipletau
import numpy as np
from tag_data import Cached, serve, split

TRACE_BIN_PS = 1_000_000


def prepare(n):
    a, b = split(n)
    origin = min(a[0], b[0])
    n_bins = (max(a[-1], b[-1]) - origin) // TRACE_BIN_PS + 1
    return tuple(
        np.bincount((times - origin) // TRACE_BIN_PS, minlength=n_bins).astype(np.float64) for times in (a, b)
    )


if __name__ == "__main__":
    data = Cached(prepare)
    serve(version("multipletau"), lambda n: multipletau.correlate(*data(n), m=16, deltat=TRACE_BIN_PS))
