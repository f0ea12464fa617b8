"""Transports: how bytes travel to an instrument. Serial line, TCP socket, VISA resource.

A transport only writes bytes and reads what has arrived; framing, locking and resynchronisation are
the link's work. Addresses: `tcp://host:port`, `serial:///dev/ttyUSB0` (or `serial://COM3`),
`visa://RESOURCE`.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol

from labctl.instruments.errors import InstrumentDisconnected

CONNECT_TIMEOUT_S = 2.0


class Transport(Protocol):
    """A two-way byte stream. Failures are raised as OSError."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        ...

    def read(self, timeout_s: float) -> bytes:
        """What has arrived; waits at most `timeout_s` for the first byte and returns b"" if none came."""
        ...

    def close(self) -> None:
        """Release the port. Idempotent."""
        ...


class TcpTransport:
    """A TCP connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, data: bytes) -> None:
        self._socket.settimeout(CONNECT_TIMEOUT_S)
        self._socket.sendall(data)

    def read(self, timeout_s: float) -> bytes:
        self._socket.settimeout(timeout_s)  # 0 means: only what is there already
        try:
            data = self._socket.recv(65536)
        except (TimeoutError, BlockingIOError):
            return b""
        if not data:
            raise ConnectionResetError("the instrument closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


class SerialTransport:
    """A serial line through pyserial. `settings` are pyserial's own (baudrate, rtscts, xonxoff, ...)."""

    def __init__(self, port: str, **settings: Any) -> None:
        import serial

        self._serial = serial.serial_for_url(
            port, timeout=0, write_timeout=CONNECT_TIMEOUT_S, exclusive=True, **settings
        )

    def write(self, data: bytes) -> None:
        self._serial.write(data)

    def read(self, timeout_s: float) -> bytes:
        self._serial.timeout = timeout_s
        first = self._serial.read(1)
        return first + self._serial.read(self._serial.in_waiting) if first else b""

    def close(self) -> None:
        self._serial.close()


class VisaTransport:
    """A VISA resource through pyvisa with the pyvisa-py backend."""

    def __init__(self, resource: str) -> None:
        import pyvisa
        from pyvisa import constants, errors

        self._timeout_status = constants.StatusCode.error_timeout
        self._visa_error = errors.VisaIOError
        self._manager = pyvisa.ResourceManager("@py")
        try:
            self._resource: Any = self._manager.open_resource(
                resource, open_timeout=int(CONNECT_TIMEOUT_S * 1000)
            )
        except BaseException:
            self._manager.close()
            raise
        # one message per read on message-based interfaces, one line on sockets
        if resource.upper().endswith("::SOCKET"):
            self._resource.set_visa_attribute(constants.ResourceAttribute.termchar, ord("\n"))
            self._resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, constants.VI_TRUE)

    def write(self, data: bytes) -> None:
        try:
            self._resource.write_raw(data)
        except self._visa_error as error:
            raise OSError(str(error)) from error

    def read(self, timeout_s: float) -> bytes:
        self._resource.timeout = max(int(timeout_s * 1000), 1)
        try:
            return bytes(self._resource.read_raw())
        except self._visa_error as error:
            if error.error_code == self._timeout_status:
                return b""
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._resource.close()
        self._manager.close()


def open_transport(address: str, instrument: str, serial_settings: dict[str, Any] | None = None) -> Transport:
    """Open the transport that `address` names.

    Raises InstrumentDisconnected, saying why and what to check, when nobody answers there.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        raise InstrumentDisconnected(
            f"address {address!r} has no scheme",
            instrument=instrument,
            hint="write tcp://host:port, serial:///dev/ttyUSB0 or visa://RESOURCE in the bench file",
        )
    try:
        if scheme == "tcp":
            host, _, port = rest.rpartition(":")
            return TcpTransport(host, int(port))
        if scheme == "serial":
            return SerialTransport(rest, **(serial_settings or {}))
        if scheme == "visa":
            return VisaTransport(rest)
    except Exception as error:  # each library has its own errors for "not there"
        raise InstrumentDisconnected(
            f"nobody answers at {address} ({error})",
            instrument=instrument,
            hint="check that it is switched on and connected, and the address in the bench file",
        ) from error
    raise InstrumentDisconnected(
        f"address {address!r} has the unknown scheme {scheme!r}",
        instrument=instrument,
        hint="known schemes are tcp, serial and visa",
    )
