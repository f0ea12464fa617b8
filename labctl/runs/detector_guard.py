"""The guard of single-photon detectors: too bright a light is noticed in the very block that shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from labctl.timetags import TagBlock

_SIGMAS = 3.0


class DetectorGuard:
    """Judges each block of tags of some detectors.

    channels: the detectors. max_rate_hz: largest count rate of any one of them; a block trips the guard
    when it holds more counts than this rate gives by chance (3 sigma; 1 % at 100 000 counts), or a gap in
    which tags of these channels were lost, as there are when too many come. resume_below_hz: once tripped,
    a block without a gap and with all rates below this releases it. Raises ValueError when that is above
    max_rate_hz.
    """

    def __init__(self, channels: Iterable[int], max_rate_hz: float, resume_below_hz: float) -> None:
        if not 0 < resume_below_hz <= max_rate_hz:
            raise ValueError(f"resume_below {resume_below_hz:g} Hz must be below max_rate {max_rate_hz:g} Hz")
        self.channels = tuple(channels)
        self.max_rate_hz = max_rate_hz
        self.resume_below_hz = resume_below_hz
        self.reason = ""
        """Why it is tripped, "" while it is not."""

    @property
    def tripped(self) -> bool:
        """True from the block that was too bright until one that is dim enough."""
        return bool(self.reason)

    def update(self, block: TagBlock) -> bool:
        """Judge the next block; returns `tripped`. A block of no live time and no gap changes nothing."""
        complaint = self._complaint(block)
        if complaint or (self.tripped and self._dim(block)):
            self.reason = complaint
        return self.tripped

    def _complaint(self, block: TagBlock) -> str:
        for gap in block.gaps:
            if not gap.missed or any(gap.missed.get(channel, 0) for channel in self.channels):
                return f"the tagger lost tags for {(gap.end_ps - gap.begin_ps) * 1e-9:.3g} ms"
        live_s = block.live_time_ps * 1e-12
        allowed = self.max_rate_hz * live_s
        for channel, count in self._counts(block).items():
            if live_s > 0 and count > allowed + _SIGMAS * math.sqrt(allowed):
                limit = f"the limit of {self.max_rate_hz:.4g} Hz"
                return f"channel {channel} counts {count / live_s:.4g} Hz, above {limit}"
        return ""

    def _dim(self, block: TagBlock) -> bool:
        live_s = block.live_time_ps * 1e-12
        return live_s > 0 and all(n < self.resume_below_hz * live_s for n in self._counts(block).values())

    def _counts(self, block: TagBlock) -> dict[int, int]:
        return {channel: int(np.count_nonzero(block.channels == channel)) for channel in self.channels}
