"""`labctl calibrations`: what is known of each bench, how old it is, and whether it still holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from labctl.cli.output import print_json, print_table, print_text, with_error
from labctl.loading import NotFound, nearest
from labctl.quantities import format_quantity
from labctl.store.calibrations import Calibration, CalibrationStore


def list_calibrations(*, bench: str | None, root: Path, as_json: bool) -> None:
    """List the calibrations in use, those of one bench if named. Raises NotFound for an unknown bench."""
    store, now = CalibrationStore(root), datetime.now(UTC)
    benches = store.benches()
    if bench is not None and bench not in benches:
        raise NotFound(f"no calibrations of a bench {bench!r} in {root}{nearest(bench, benches)}")
    wanted = benches if bench is None else [bench]
    found = [c for b in wanted for name in store.names(b) if (c := store.latest(b, name, now)) is not None]
    if as_json:
        print_json({"calibrations": [_json(calibration, now) for calibration in found]})
    elif not found:
        print_text(f"no calibrations in {root}")
    else:
        columns = ["bench", "calibration", "value ± error", "age", "valid", "made by"]
        print_table("", columns, [_row(calibration, now) for calibration in found])


def _json(calibration: Calibration, now: datetime) -> dict[str, Any]:
    age_s = (now - calibration.made_at).total_seconds()
    return calibration.to_json() | {"age_s": age_s, "stale": calibration.stale(now)}


def _row(calibration: Calibration, now: datetime) -> list[str]:
    made_by = Path(calibration.run_path).name or calibration.method
    return [
        calibration.bench, calibration.name, _value(calibration), _span(now - calibration.made_at),
        _validity(calibration, now), made_by,
    ]  # fmt: skip


def _value(calibration: Calibration) -> str:
    value, error = calibration.value, calibration.error
    if not isinstance(value, float | int):
        return ", ".join(f"{name} {list(array.shape)}" for name, array in value.items())
    if not isinstance(error, float | int) or error == 0:
        return format_quantity(value, calibration.unit, 6)
    return with_error({"value": value, "error_low": error, "error_high": error, "unit": calibration.unit})


def _validity(calibration: Calibration, now: datetime) -> str:
    if calibration.valid_until is None:
        return "always"
    left = calibration.valid_until - now
    return f"STALE for {_span(-left)}" if calibration.stale(now) else f"for {_span(left)} more"


def _span(span: timedelta) -> str:
    """With two units: `3 d 4 h`, `4 h 10 min`, `10 min`."""
    minutes = round(span.total_seconds() / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
