"""Which bench takes the place of which, and what of the real one's limits comes along."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.bench.bench import open_bench
from labctl.forecast import CountForecast, ForecastError
from labctl.forecast.stand_in import impose, real_limits, stand_in_for
from labctl.instruments.limits import OutOfLimitsError
from labctl.loading import find_config


def bench_file(folder: Path, *changes: tuple[str, str]) -> str:
    """A copy of the real bench with texts replaced."""
    text = find_config("benches", "dot_lab").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "real.yaml"
    file.write_text(text)
    return str(file)


def test_a_bench_with_a_twin_is_its_own_stand_in(tmp_path: Path) -> None:
    stand_in = stand_in_for("sim_dot")
    assert stand_in.itself
    assert real_limits(stand_in, tmp_path) == ([], [])


def test_a_real_bench_names_its_stand_in(tmp_path: Path) -> None:
    stand_in = stand_in_for("dot_lab")
    assert (stand_in.asked.bench, stand_in.simulated.bench) == ("dot_lab", "sim_dot")
    assert "tagger" in stand_in.shared and stand_in.differing == []
    limits, remarks = real_limits(stand_in, tmp_path)
    assert limits == []
    assert "dot_lab are checked" in remarks[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("dry_run: sim_dot", ""), ["real.yaml", "`dry_run: sim_dot`"]),
        (("dry_run: sim_dot", "dry_run: dot_lab"), ["names", "dot_lab.yaml", "no twin"]),
        (("dry_run: sim_dot", "dry_run: attached.yaml"), ["127.0.0.1:5000", "is running"]),
    ],
)
def test_a_bench_that_cannot_be_rehearsed_says_what_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    simulated = find_config("benches", "sim_dot").read_text()
    (tmp_path / "attached.yaml").write_text(simulated.replace("twin: sim_dot", "twin: 127.0.0.1:5000"))
    with pytest.raises(ForecastError) as raised:
        stand_in_for(bench_file(tmp_path, change))
    for word in words:
        assert word in str(raised.value)


def test_a_role_that_the_real_bench_lacks_is_named(tmp_path: Path) -> None:
    stand_in = stand_in_for(bench_file(tmp_path, ("  mir_gate:", "  picker:")))
    stand_in.check_roles({"tagger": object})
    with pytest.raises(ForecastError, match=r"no instrument for 'mir_gate'; add it to .*real\.yaml"):
        stand_in.check_roles({"tagger": object, "mir_gate": object})


def test_the_real_limits_bind_the_simulated_instruments(tmp_path: Path) -> None:
    weaker = ("max_power_w: 1.1983545 mW", "max_power_w: 0.3 mW")  # a quarter of the power, half the field
    stand_in = stand_in_for(bench_file(tmp_path, weaker, ("  power_meter:", "  meter:")))
    assert stand_in.differing == ["mir_attenuator"]
    limits, remarks = real_limits(stand_in, tmp_path)
    assert remarks[1].endswith("no such instrument: meter")
    with open_bench("sim_dot") as bench:
        bench.mir_attenuator.power(0.31e-3)
        impose(limits, bench)
        bench.mir_attenuator.power(0.29e-3)
        bench.mir_field.field(4.9e8)
        with pytest.raises(OutOfLimitsError, match=r"mir_attenuator: power = 0\.00031 W .* to 0\.0003 W"):
            bench.mir_attenuator.power(0.31e-3)
        with pytest.raises(OutOfLimitsError, match="mir_field: field"):
            bench.mir_field.field(10e8)


def test_options_that_do_not_fit_the_twin_are_said_not_to_be_checked(tmp_path: Path) -> None:
    stand_in = stand_in_for(bench_file(tmp_path, ("output: EF", "output: XY")))
    limits, remarks = real_limits(stand_in, tmp_path)
    assert limits == []
    assert remarks[-1].startswith("not checked: the limits of mir_gate")


def test_the_detector_guard_of_the_real_bench_trips_at_the_foretold_rates(tmp_path: Path) -> None:
    guard = "detector_guard: {channels: [1, 2], max_rate: 10 kHz, resume_below: 5 kHz}\nvalues:"
    stand_in = stand_in_for(bench_file(tmp_path, ("values:", guard)))

    def rate(channel: int, highest_hz: float) -> CountForecast:
        return CountForecast("segments", channel, 2, 1e3, 1e3, highest_hz, 1.0, 2.0)

    assert stand_in.guard_trip([rate(1, 9.9e3), rate(3, 1e6)]) == ""
    trip = stand_in.guard_trip([rate(1, 9.9e3), rate(2, 10.1e3)])
    assert "channel 2 reaches 1.01e+04 1/s in 'segments'" in trip
    assert stand_in_for("sim_dot").guard_trip([rate(1, 1e9)]) == ""
