"""Room kept free for the end of a run: a file that takes space and gives it back when the disk is full."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from . import disk

RESERVE = "run.reserve"
RESERVE_BYTES = 24 << 20  # the last records, and what finishing a run needs at least
LOW_BYTES = 1 << 30
_ROWS_STEP = 8 << 20
_PERIOD_S = 1.0


class Reserve:
    """The reserve of one run folder. `low_bytes`: when less than that is free, the disk is low."""

    def __init__(self, folder: Path, size: int = RESERVE_BYTES, low_bytes: int = LOW_BYTES) -> None:
        self._path = folder / RESERVE
        self._size = size
        self._low_bytes = low_bytes
        self._low = False
        self._rows, self._planned_rows = 0, _ROWS_STEP
        self._looked_s = -_PERIOD_S
        self._held = self._take()

    @property
    def low(self) -> bool:
        """True when the disk is nearly full or the reserve is in use; looks once a second."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= _PERIOD_S:
            self._looked_s = now_s
            free = shutil.disk_usage(self._path.parent).free
            if not self._held and free > self._low_bytes + self._size:
                self._held = self._take()
            self._low = free < self._low_bytes or not self._held
        return self._low

    def count_rows(self, nbytes: int) -> None:
        """Rows of so many bytes more will want room in the run file."""
        self._rows += nbytes
        if self._rows > self._planned_rows:
            self._planned_rows += _ROWS_STEP
            self._size += _ROWS_STEP
            if self._held:
                with suppress(OSError):  # then the disk is low, and what is held stays
                    disk.reserve(self._path, self._size)

    def release(self) -> bool:
        """Give the space back, once; True when there was any."""
        held, self._held, self._low = self._held, False, True
        disk.remove(self._path)
        return held

    def _take(self) -> bool:
        try:
            disk.reserve(self._path, self._size)
        except OSError as error:
            disk.remove(self._path)
            return not disk.is_full(error)  # on a disk that knows no reserves there is nothing to warn of
        return True
