"""A child process that is being started holds copies of our open files for a moment; nothing waits for it."""

import sys

import pytest

from labctl.store import disk
from labctl.store.nexus_read import load_run


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_a_run_file_is_read_though_somebody_holds_a_lock_on_it(tmp_path):
    import fcntl

    path = tmp_path / "run.h5"
    with disk.new_hdf5(path) as file:
        file.create_group("entry")
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with disk.read_hdf5(path) as file:
            assert "entry" in file
        with pytest.raises(Exception, match="not a complete run file"):  # and not: unable to lock
            load_run(path)
