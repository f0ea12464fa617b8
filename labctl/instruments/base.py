"""The base class of every labctl driver: a QCoDeS instrument with the holes closed.

What it adds to QCoDeS: parameters cannot be replaced by accident, every instrument can say who it is,
establish all modal state it relies on, report its state in words, and make itself safe. Building the
object opens its link; `start()` then establishes the modal state and checks the identity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qcodes.instrument import Instrument
from qcodes.parameters import ParameterBase

from labctl.clock import Clock, WallClock
from labctl.instruments.errors import IdentityMismatch, InstrumentDisconnected, InstrumentError, NotReady
from labctl.instruments.link import Link

SAFE_RETRY_S = 0.05
"""Wall time between two attempts to make an instrument safe."""


@dataclass(frozen=True)
class Identity:
    """Who an instrument says it is."""

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""

    def __str__(self) -> str:
        parts = [f"{self.vendor} {self.model}"]
        if self.serial:
            parts.append(f"s/n {self.serial}")
        if self.firmware:
            parts.append(f"firmware {self.firmware}")
        return ", ".join(parts)


@dataclass(frozen=True)
class SafeReport:
    """What `safe()` did: each step with its outcome, and whether the read-back agrees."""

    instrument: str
    safe: bool
    steps: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.instrument}: {'safe' if self.safe else 'NOT SAFE'} ({'; '.join(self.steps)})"


class LabInstrument(Instrument):
    """A QCoDeS instrument that keeps the promises of labctl.

    name: name in the bench file. link: its wire, None for derived instruments. clock: the bench clock.
    """

    def __init__(self, name: str, link: Link | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(name)
        self.link = link
        self.clock: Clock = clock or WallClock()

    def __setattr__(self, key: str, value: Any) -> None:
        own = self.__dict__.get("parameters", {})
        if key in own and not isinstance(value, ParameterBase):
            raise AttributeError(
                f"{self.name}.{key} is a parameter; set it by calling {self.name}.{key}({value!r})"
            )
        if self.__dict__.get("_sealed", False) and not key.startswith("_") and not hasattr(self, key):
            raise AttributeError(
                f"{self.name} has no parameter or attribute {key!r}; known: {', '.join(sorted(own))}"
            )
        super().__setattr__(key, value)

    def start(self, expected_identity: str = "") -> Identity:
        """Establish the modal state and return the identity; to be called once before use.

        expected_identity: text that must occur in the identity (a model or a serial number).
        Raises IdentityMismatch when another instrument answers.
        """
        self.establish()
        identity = self.identity()
        if expected_identity.lower() not in str(identity).lower():
            raise IdentityMismatch(
                f"expected {expected_identity!r} but found {identity}",
                instrument=self.name,
                hint="correct the address or the identity in the bench file",
            )
        self._sealed = True
        return identity

    def establish(self) -> None:
        """Set every mode that the driver relies on (echo, units, handshake); never moves or emits."""

    def identity(self) -> Identity:
        """Ask the instrument who it is."""
        return Identity("labctl", type(self).__name__)

    def state_text(self) -> str:
        """The state in a few words, for `labctl check`."""
        return "ready"

    def check_errors(self) -> None:
        """Raise CommandRejected if the instrument reports an error; called after every set."""

    def safe(self) -> SafeReport:
        """Bring the instrument into its safe state. Idempotent; never raises; verified by read-back."""
        return SafeReport(self.name, True, ("nothing to make safe",))

    def close(self) -> None:
        """Release the instrument and its port. Idempotent."""
        link = self.__dict__.get("link")  # QCoDeS removes all attributes when it closes
        if link is not None:
            link.close()
        super().close()

    def get_idn(self) -> dict[str, str | None]:
        identity = self.identity()
        return {
            "vendor": identity.vendor,
            "model": identity.model,
            "serial": identity.serial,
            "firmware": identity.firmware,
        }

    def wait_until(
        self, condition: Callable[[], bool], what: str, *, deadline_s: float, poll_s: float = 0.05
    ) -> None:
        """Poll `condition` on the bench clock. Raises NotReady after `deadline_s`."""
        end = self.clock.now() + deadline_s
        while not condition():
            if self.clock.now() >= end:
                raise NotReady(
                    f"not {what} after {deadline_s:g} s",
                    instrument=self.name,
                    hint=f"state: {self.state_text()}",
                )
            self.clock.sleep(poll_s)

    def attempt_safe(
        self, switch_off: Callable[[], None], is_safe: Callable[[], bool], what: str, *, limit_s: float = 5.0
    ) -> SafeReport:
        """Repeat `switch_off` until `is_safe` reads back, within `limit_s` of wall time.

        The line is drained before every attempt, because a dead program may have left half a command.
        """
        steps: list[str] = []
        deadline = time.monotonic() + limit_s
        while True:
            try:
                if self.link is not None:
                    self.link.mark_dirty()
                switch_off()
                if is_safe():
                    return SafeReport(self.name, True, (*steps, f"{what}: read-back agrees"))
                steps.append(f"{what}: read-back disagrees")
            except InstrumentDisconnected as error:
                return SafeReport(self.name, False, (*steps, f"{what}: {error}"))
            except InstrumentError as error:
                steps.append(f"{what}: {error}")
            if time.monotonic() >= deadline:
                return SafeReport(self.name, False, tuple(steps))
            time.sleep(SAFE_RETRY_S)
