"""bluesky `RunEngine` and `scan`: two movables and two readables, without any callback.

The devices are the leanest that bluesky accepts: a set is finished when it returns.
"""

import time

import bluesky
from bluesky.plans import scan as scan_plan
from bluesky.run_engine import RunEngine
from serve import serve


class Done:
    """The status of a set that is over."""

    done = True
    success = True

    def add_callback(self, callback):
        callback(self)

    def exception(self, timeout=None):
        return None

    def wait(self, timeout=None):
        pass


class Value:
    """A number in memory that can be moved and read."""

    parent = None

    def __init__(self, name):
        self.name = name
        self.position = 0.0

    def set(self, value):
        self.position = value
        return Done()

    def read(self):
        return {self.name: {"value": self.position, "timestamp": time.time()}}

    def describe(self):
        return {self.name: {"source": "memory", "dtype": "number", "shape": []}}

    def read_configuration(self):
        return {}

    def describe_configuration(self):
        return {}


def main():
    engine = RunEngine(context_managers=[])
    x, y, a, b = (Value(name) for name in "xyab")
    serve(bluesky.__version__, lambda n: engine(scan_plan([a, b], x, 0, 1, y, 0, 1, num=n)))


if __name__ == "__main__":
    main()
