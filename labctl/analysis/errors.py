"""The one error of this room: data from which the asked-for quantity cannot be estimated."""

from __future__ import annotations

from labctl.errors import LabctlError


class AnalysisError(LabctlError, ValueError):
    """The data do not allow this estimate; the message says why and what to measure instead."""
