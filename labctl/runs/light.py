"""Light and other outputs of a run: scoped, always switched off in reverse order, taken away while it waits.

What the run switches on, it switches off again, however it ends: every step is attempted even if another
raises or hangs, each within a time limit, and the result is read back and recorded. While a run is paused or
suspended everything that can be closed or blanked is, and sources with a shutter in front of them stay warm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from labctl.bench.safety import within
from labctl.instruments.errors import CommandRejected

SWITCHES = ("open", "emission", "enabled", "output")
SWITCH_LIMIT_S = 5.0


@dataclass
class _Lit:
    """A source in scope: what it was switched to last, and whether a pause leaves it alone."""

    source: Any
    on: bool
    keep: bool


class Light:
    """All that the run has switched on.

    record: called with (kind, **fields) for every switching. kept_warm: laser -> shutter that blocks its
    light; a pause leaves such a laser on if this shutter is in scope too, and closes the shutter.
    """

    def __init__(self, record: Callable[..., None], kept_warm: Mapping[str, str] | None = None) -> None:
        self._record = record
        self._kept_warm = dict(kept_warm or {})
        self._lit: list[_Lit] = []
        self.dark = False

    @contextmanager
    def scope(self, *sources: Any, keep_light_on_pause: bool = False) -> Iterator[None]:
        """Switch `sources` on in order, and off in reverse order on leaving.

        keep_light_on_pause: a pause leaves them on; recorded. Raises the first failure to switch off, when
        nothing else is being raised it is the reason for which the run ends.
        """
        begin = len(self._lit)
        try:
            for source in sources:
                entry = _Lit(source, True, keep_light_on_pause)
                self._lit.append(entry)  # before switching: a failed switch-on is switched off too
                self._switch(source, True)
                if keep_light_on_pause:
                    self._record("keep_light_on_pause", instrument=source.name)
            yield
        finally:
            failures = [self._switch_off(entry) for entry in reversed(self._lit[begin:])]
            del self._lit[begin:]
            for failure in failures:
                if failure is not None:
                    raise failure

    def switch(self, source: Any, on: bool) -> None:
        """Switch one source in the middle of a run. Raises ValueError when it is not in a scope."""
        entry = next((lit for lit in reversed(self._lit) if lit.source is source), None)
        if entry is None:
            raise ValueError(f"{source.name} is not in emission(...): name it there to switch it in the run")
        entry.on = on
        self._switch(source, on)

    def darken(self, *, everything: bool = False) -> list[Exception]:
        """Close and blank all but what is kept on purpose, in reverse order; the failures, if any.

        everything: leave nothing on, not even what was to be kept.
        """
        self.dark = True
        entries = [lit for lit in reversed(self._lit) if lit.on and (everything or not self._stays_on(lit))]
        return [failure for lit in entries if (failure := self._switch_off(lit)) is not None]

    def restore(self) -> None:
        """Switch on again what `darken` switched off, in the order in which it was switched on."""
        for lit in self._lit:
            if lit.on and not self._stays_on(lit):
                self._switch(lit.source, True)
        self.dark = False

    def _stays_on(self, lit: _Lit) -> bool:
        shutter = self._kept_warm.get(lit.source.name)
        return lit.keep or any(other.source.name == shutter for other in self._lit)

    def _switch_off(self, lit: _Lit) -> Exception | None:
        try:
            self._switch(lit.source, False)
        except Exception as error:  # every other source must still be switched off
            self._note("switch_off_failed", instrument=lit.source.name, error=str(error))
            return error
        return None

    def _note(self, kind: str, **fields: Any) -> None:
        """Record, unless the record fails: that must not keep the next source from being switched off."""
        with suppress(Exception):
            self._record(kind, **fields)

    def _switch(self, source: Any, on: bool) -> None:
        parameter = switch_parameter(source)
        found = within(SWITCH_LIMIT_S, partial(_set_and_read, parameter, on), f"switching {source.name}")
        self._note("switch", instrument=source.name, on=on, read_back=found)
        if found is not on:
            raise CommandRejected(
                f"switched {'on' if on else 'off'}, but reads back as {'on' if found else 'off'}",
                code="read-back",
                instrument=source.name,
                command=f"{getattr(parameter, 'name', '')}({on})",
                hint="check its interlock and key",
            )


def switch_parameter(source: Any) -> Any:
    """The parameter that lets light out: `open`, `emission`, `enabled` or `output`. Raises TypeError."""
    for name in SWITCHES:
        if hasattr(source, name):
            return getattr(source, name)
    raise TypeError(f"{source.name} cannot be switched: it has none of {', '.join(SWITCHES)}")


def _set_and_read(parameter: Any, on: bool) -> bool:
    parameter(on)
    return bool(parameter())
