"""What can go wrong between labctl and an instrument, said so that the reader knows what to do next.

Every error carries the instrument, the command, the bytes that came back and a hint.
"""

from __future__ import annotations

from labctl.errors import LabctlError

_SHOWN_BYTES = 200


class InstrumentError(LabctlError):
    """Base of all instrument errors.

    instrument: name in the bench file. command: what was sent. received: raw bytes that came back.
    hint: what to do next.
    """

    def __init__(
        self,
        message: str,
        *,
        instrument: str = "",
        command: str = "",
        received: bytes = b"",
        hint: str = "",
    ) -> None:
        self.instrument = instrument
        self.command = command
        self.received = received[:_SHOWN_BYTES]
        self.hint = hint
        parts = [f"{instrument}: {message}" if instrument else message]
        if command:
            parts.append(f"command {command!r}")
        if received:
            parts.append(f"received {self.received!r}")
        if hint:
            parts.append(hint)
        super().__init__("; ".join(parts))


class InstrumentTimeout(InstrumentError):
    """The instrument did not answer in time."""


class InstrumentDisconnected(InstrumentError):
    """The connection is gone, or could not be opened."""


class ProtocolError(InstrumentError):
    """The answer does not fit the protocol."""


class CommandRejected(InstrumentError):
    """The instrument understood the command and refused it."""

    def __init__(self, message: str, *, code: int | str, **context: object) -> None:
        self.code = code
        super().__init__(message, **context)  # type: ignore[arg-type]


class InterlockOpen(InstrumentError):
    """Emission is blocked by an interlock or a key."""


class NotReady(InstrumentError):
    """The instrument did not reach the state that was waited for."""


class LimitExceeded(InstrumentError):
    """The value lies outside the limits; nothing was sent."""


class DataLoss(InstrumentError):
    """The instrument lost data (overflow, full FIFO)."""


class IdentityMismatch(InstrumentError):
    """Another instrument answers at this address than the bench file names."""


class VendorLibraryMissing(InstrumentError):
    """The vendor's library is not installed."""
