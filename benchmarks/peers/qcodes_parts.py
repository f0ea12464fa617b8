"""The instrument of the QCoDeS peers, and a fresh database to write to."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import qcodes
from qcodes.dataset import initialise_or_create_database_at, load_or_create_experiment
from qcodes.instrument import Instrument

VERSION = qcodes.__version__


class Pair(Instrument):
    """Two parameters to set and two to get, all in memory."""

    def __init__(self, name):
        super().__init__(name)
        self.add_parameter("x", set_cmd=None, get_cmd=None, initial_value=0.0)
        self.add_parameter("y", set_cmd=None, get_cmd=None, initial_value=0.0)
        self.add_parameter("a", get_cmd=lambda: 1.0)
        self.add_parameter("b", get_cmd=lambda: 2.0)


@contextmanager
def fresh_database():
    """Write to a new database in a temporary folder while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        initialise_or_create_database_at(Path(folder) / "runs.db")
        load_or_create_experiment("benchmark", "pair")
        yield
