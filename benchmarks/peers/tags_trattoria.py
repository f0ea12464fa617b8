"""trattoria: Rust, from a PTU file to the correlation of one pair of channels."""

from importlib.metadata import version

import trattoria
from tag_data import BIN_PS, FOLDER, WINDOW_PS, serve

CHANNELS = (1, 2)  # it calls the first input of a HydraHarp 1

if __name__ == "__main__":
    files = {}

    def correlate(n):
        # a file with the first n tags
        path = str(FOLDER / f"tags_{n}.ptu")
        if path not in files:
            files[path] = trattoria.PTUFile(path)
        parameters = trattoria.G2Parameters(CHANNELS[0], CHANNELS[1], WINDOW_PS * 1e-12, BIN_PS * 1e-12)
        files[path].g2(parameters, mode="symmetric")

    serve(version("trattoria"), correlate)
