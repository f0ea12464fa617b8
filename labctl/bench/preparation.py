"""What the guardian does in advance, so that in need nothing but opening the links is left to do."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from labctl.bench.building import load_driver
from labctl.bench.config import BenchConfig
from labctl.bench.rescue import Charge
from labctl.bench.twin_client import TwinClient, TwinClock, TwinError
from labctl.errors import LabctlError
from labctl.instruments.base import LabInstrument

LEASE_S = 5.0
"""Wall time within which the twin must notice that the engine has left, and give its time away."""
_RETRY_S = 0.01
_LIBRARIES = {"serial": "serial", "visa": "pyvisa_py"}


class Preparation:
    """A bench that is known, its drivers loaded; its links are not opened. config: as JSON."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = BenchConfig.model_validate(config)
        self._drivers: dict[str, Any] = {}
        self.connected = False
        self.complete = False
        self._control = ""
        self._client: TwinClient | None = None
        for name in self.config.instruments:
            with suppress(LabctlError):  # the bench process has the same trouble, and says so
                self._drivers[name] = load_driver(self.config, name, self.config.bench)
        self.charge = Charge(self.config, self._drivers)
        LabInstrument("labctl_guardian_warm_up").close()

    def connect(self, addresses: Mapping[str, str], twin: str | None) -> None:
        """Where the instruments are; a twin (its control port) is held from now on, so that it stays."""
        self.connected = True
        for address in addresses.values():
            _load_library(address)
        if twin is not None:
            self._control = twin
            self._client = TwinClient(twin)
            self.charge = replace(self.charge, addresses=addresses, clock=TwinClock(self._client))
        else:
            self.charge = replace(self.charge, addresses=addresses)
        self.complete = True

    def take_time(self) -> None:
        """Own the twin's time as soon as it is free, because a move takes time; does not wait for that."""
        if self._client is not None:
            threading.Thread(target=self._take_time, args=(self._client,), daemon=True).start()

    @property
    def on_twin(self) -> bool:
        """Whether the bench is simulated."""
        return bool(self._control)

    def bench_is_gone(self) -> bool:
        """Whether the bench was a twin that does not exist any more."""
        if not self._control:
            return False
        try:
            TwinClient(self._control).close()
        except TwinError:
            return True
        return False

    def _take_time(self, client: TwinClient) -> None:
        deadline = time.monotonic() + LEASE_S
        while not client.owns_time and time.monotonic() < deadline:
            try:
                client.lease("guardian")
            except TwinError:
                threading.Event().wait(_RETRY_S)


def _load_library(address: str) -> None:
    """The library beneath the transport, or what stands in for the vendor's."""
    scheme, _, rest = address.partition("://")
    module = rest.partition("@")[0] if scheme == "vendor" else _LIBRARIES.get(scheme)
    if module:
        with suppress(ImportError):
            importlib.import_module(module)
    if scheme == "visa":
        import pyvisa

        pyvisa.ResourceManager("@py").close()
