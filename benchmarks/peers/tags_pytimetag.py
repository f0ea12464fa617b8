"""PyTimeTag: two pointers in numba; its compiled loop directly, which spares it the checks around."""

from importlib.metadata import version

from pytimetag.analysers.HistogramAnalyser import analysisOneListJIT
from tag_data import BIN_PS, WINDOW_PS, Cached, serve, split

if __name__ == "__main__":
    data = Cached(split)
    n_bins = 2 * WINDOW_PS // BIN_PS
    serve(
        version("pytimetag"),
        lambda n: analysisOneListJIT(*data(n), -float(WINDOW_PS), float(WINDOW_PS), n_bins, 1),
    )
