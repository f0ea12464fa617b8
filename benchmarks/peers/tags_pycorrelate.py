"""pycorrelate: Laurence's pointers, one per bin edge."""

import warnings
from importlib.metadata import version

import numpy as np
from tag_data import BIN_PS, WINDOW_PS, Cached, serve, split

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    from pycorrelate import pcorrelate

    bins = np.arange(-WINDOW_PS, WINDOW_PS + 1, BIN_PS).astype(np.int64)
    data = Cached(split)
    serve(version("pycorrelate"), lambda n: pcorrelate(*data(n), bins))
