"""The end of a measuring process: asked for a scan of N points, it answers how many seconds that took.

A question is a line with the number of points on standard input; an answer is a line on standard output.
The first line out is the version of what is measured. Everything else that a framework likes to print goes
to standard error. It stands alone, because peers run in environments without labctl.
"""

import sys
import time


def serve(version, scan):
    """Answer until standard input ends; `scan(n)` takes a scan of n points."""
    answers, sys.stdout = sys.stdout, sys.stderr
    _answer(answers, version)
    for line in sys.stdin:
        begin_s = time.perf_counter()
        scan(int(line))
        _answer(answers, repr(time.perf_counter() - begin_s))


def _answer(answers, text):
    answers.write(f"{text}\n")
    answers.flush()
