"""What every correlator of tags gets, and how it answers: the seconds of processor time that n tags took.

Processor time, because each of them works in one thread and the machine may be busy. The tags are in the
folder named on the command line. A question is a line with a number of tags on standard input, an answer a
line on standard output; the first line out is the version. Everything else that is printed goes to standard
error. It stands alone, because peers run in environments without labctl.
"""

import sys
import time
from pathlib import Path

import numpy as np

FOLDER = Path(sys.argv[1])
WINDOW_PS, BIN_PS = 100_000, 1_000


def split(n):
    """Times of both channels among the first n tags, read and split beforehand: int64 each."""
    times, channels = np.load(FOLDER / "times.npy")[:n], np.load(FOLDER / "channels.npy")[:n]
    return times[channels == 0], times[channels == 1]


class Cached:
    """Calls `prepare(n)` only when n changes, so that preparing is not part of what is timed twice."""

    def __init__(self, prepare):
        self._prepare, self._n, self._data = prepare, None, None

    def __call__(self, n):
        if n != self._n:
            self._n, self._data = n, self._prepare(n)
        return self._data


def serve(version, run):
    """Answer until standard input ends; `run(n)` correlates the first n tags."""
    answers, sys.stdout = sys.stdout, sys.stderr
    _answer(answers, version)
    for line in sys.stdin:
        begin_s = time.process_time()
        run(int(line))
        _answer(answers, repr(time.process_time() - begin_s))


def _answer(answers, text):
    answers.write(f"{text}\n")
    answers.flush()
