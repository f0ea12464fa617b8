"""Bad input ends in one line that names the thing and what to do, and leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import pytest

from labctl.loading import find_config
from tests.cli.commands import Call, assert_refused, labctl_process

METER = "drivers.power_meters.thorlabs_pm100d:ThorlabsPm100d"
BENCH = """\
bench: b
instruments:
  power_meter:
    driver: {driver}
    address: '{address}'
"""
RUN = ("run", "delay_scan", "--bench", "sim_dot")
CONNECT_S = 3.0


def bench_file(folder: Path, driver: str = METER, address: str = "tcp://127.0.0.1:1", more: str = "") -> str:
    file = folder / "b.yaml"
    file.write_text(BENCH.format(driver=driver, address=address) + more)
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), ["nothing", "--help"]),
        (("run", "--nothing"), ["--nothing", "--help"]),
        (("run", "delay_scan"), ["--bench", "--help"]),
        (("run", "delay_scn", "--bench", "sim_dot"), ["did you mean 'delay_scan'"]),
        (("list", "delay_scn"), ["did you mean 'delay_scan'"]),
        (("run", "delay_scan", "--bench", "sim_dog"), ["no bench", "did you mean 'sim_dot'"]),
        (("check", "sim_dog"), ["did you mean 'sim_dot'"]),
        (("twin", "sim_dog"), ["no twin", "did you mean 'sim_dot'"]),
        (("check", "none.yaml"), ["no file none.yaml"]),
        ((*RUN, "--set", "dwel=3 s"), ["no parameter 'dwel'", "did you mean 'dwell'"]),
        ((*RUN, "--set", "dwell=30 m"), ["dwell", "'30 m' is a length", "'30 s'"]),
        ((*RUN, "--set", "dwell=1 ms"), ["dwell = '1 ms'", "out of bounds", ">= 100 ms"]),
        ((*RUN, "--set", "delays=log(1 m, 2 ns, 3)"), ["delays", "'1 m' is a length"]),
        ((*RUN, "--set", "delays=log(1 ns, 2 ns, 0)"), ["log takes (start, stop, number of points)"]),
        ((*RUN, "--set", "delays=log(0 ns, 2 ns, 3)"), ["a log axis needs positive ends"]),
        ((*RUN, "--set", "field=20 MV/cm"), ["field = '20 MV/cm'", "out of bounds", "<= 12 MV/cm"]),
        ((*RUN, "--set", "dwell"), ["'dwell' is not NAME=VALUE", '--set dwell="30 s"']),
        ((*RUN, "--set", "=3"), ["'=3' is not NAME=VALUE"]),
        ((*RUN, "--twin-set", "seed"), ["'seed' is not NAME=VALUE", "--twin-set world."]),
        ((*RUN, "--seed", "-1"), ["--seed", "greater than or equal to 0"]),
        (("demo", "--seed", "-1"), ["--seed", "greater than or equal to 0"]),
        (("demo", "--duration", "1"), ["--duration"]),
        (("run", "hbt", "--bench", "dot_lab", "--twin-set", "seed=1"), ["need a bench with a twin"]),
        (("show",), ["no runs in runs", "--out"]),
        (("show", "101010_hbt_abcdef"), ["no runs in runs", "labctl demo"]),
        (("recover", "nothing"), ["no runs in runs"]),
        (("plot", "nothing"), ["no runs in runs"]),
    ],
)
def test_arguments(labctl: Call, tmp_path: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    assert_refused(labctl(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("nothing",), (*RUN, "--set", "dwell=30 m")])
def test_a_process_says_the_same(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = labctl_process(tmp_path, *arguments)
    assert_refused(ended)
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [RUN, ("demo",)])
def test_a_place_for_runs_that_cannot_be_one(labctl: Call, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    assert_refused(labctl(*command, "--out", "file"), "--out file", "is a file; name a folder")
    assert_refused(labctl(*command, "--out", "file/deeper"), "is a file; name a folder")
    if sys.platform == "linux":  # where even root cannot make a file
        assert_refused(labctl(*command, "--out", "/proc/runs"), "--out /proc/runs", "cannot write in /proc")


@pytest.mark.parametrize(
    ("driver", "more", "words"),
    [
        (
            "drivers.power_meters.nothing:Meter",
            "",
            ["power_meter", "no module 'drivers.power_meters.nothing'"],
        ),
        (METER[:-1], "", ["power_meter", "did you mean 'ThorlabsPm100d'"]),
        ("labctl.sweeps:Axis", "", ["b.yaml", "power_meter", "labctl.sweeps:Axis"]),
        (
            METER,
            "    options: {averages: 3}\n",
            ["b.yaml", "power_meter", "'averages'", f"options of {METER}"],
        ),
        (METER, "    adress: x\n", ["b.yaml:6:", "did you mean 'address'"]),
        (METER, "roles: {delay: [\n", ["b.yaml:7:", "not valid YAML"]),
        (METER, "    uses: {}\nroles: {meter: power_metre}\n", ["did you mean 'power_meter'"]),
    ],
)
def test_benches(labctl: Call, tmp_path: Path, driver: str, more: str, words: list[str]) -> None:
    ended = labctl("run", "delay_scan", "--bench", bench_file(tmp_path, driver, more=more))
    assert_refused(ended, *words)
    assert [file.name for file in tmp_path.iterdir()] == ["b.yaml"]


def test_a_bench_without_a_role(labctl: Call, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("bench: b\ninstruments: {}\n")
    ended = labctl("run", "delay_scan", "--bench", "b.yaml")
    assert_refused(ended, "bench 'b'", "role 'tagger'", "TimeTagger", "b.yaml")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "serial:///dev/no-such-port",
        "visa://TCPIP0::127.0.0.1::1::SOCKET",
        "visa://TCPIP0::127.0.0.1::INSTR",
        "visa://USB0::0x1313::0x8078::P1::INSTR",
        "nowhere",
    ],
)
def test_an_address_where_nobody_answers(labctl: Call, tmp_path: Path, address: str) -> None:
    for module in ("labctl.runs.execute", "drivers.power_meters.thorlabs_pm100d", "pyvisa_py"):
        importlib.import_module(module)  # before, so that the time is that of connecting
    bench = bench_file(tmp_path, address=address)
    begin = time.monotonic()
    ended = labctl("run", "hbt", "--bench", bench)
    assert time.monotonic() - begin < CONNECT_S
    assert_refused(ended, "power_meter", address)
    assert not (tmp_path / "runs").exists()


def test_check_says_why_an_instrument_fails(labctl: Call, tmp_path: Path) -> None:
    bench = bench_file(tmp_path)
    ended = labctl("check", bench)
    assert_refused(ended, "1 of 1 instruments failed: power_meter")
    assert "nobody answers" in ended.out
    line = json.loads(labctl("check", bench, "--json").out)["instruments"][0]
    assert not line["ok"]
    assert "nobody answers at tcp://127.0.0.1:1" in line["state"]


def test_a_silent_address_is_given_up_by_a_process(tmp_path: Path) -> None:
    ended = labctl_process(tmp_path, "run", "hbt", "--bench", bench_file(tmp_path))
    assert_refused(ended, "power_meter", "tcp://127.0.0.1:1", "check that it is switched on")
    assert ended.out == ""


def test_another_instrument_than_the_one_named(labctl: Call, tmp_path: Path) -> None:
    text = find_config("benches", "sim_dot").read_text().replace("identity: PM100D", "identity: S/N 99")
    (tmp_path / "b.yaml").write_text(text)
    ended = labctl("run", "hbt", "--bench", "b.yaml")
    assert_refused(ended, "power_meter: expected 'S/N 99' but found THORLABS PM100D", "correct the address")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("world.dot.tau_xs=1e-9", ["world.dot.tau_xs", "did you mean 'tau_x_s'"]),
        ("world.dot.tau_x_s=-1", ["world.dot.tau_x_s", "greater than 0", "-1"]),
        ("devices.tagger.sim=drivers.no:Such", ["tagger", "drivers.no"]),
    ],
)
def test_a_truth_that_cannot_be(labctl: Call, tmp_path: Path, setting: str, words: list[str]) -> None:
    assert_refused(labctl(*RUN, "--twin-set", setting), *words)
    assert list(tmp_path.iterdir()) == []


def test_own_experiments_that_are_broken(labctl: Call, tmp_path: Path) -> None:
    (tmp_path / "labctl.toml").touch()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "experiments" / "empty.py").write_text("")
    assert_refused(labctl("run", "broken", "--bench", "sim_dot"), "broken.py", "no_such_package")
    assert_refused(labctl("list", "broken"), "broken.py", "no_such_package")
    assert_refused(
        labctl("run", "empty", "--bench", "sim_dot"), "empty.py", "no Experiment with name = 'empty'"
    )
    found = json.loads(labctl("list", "--json").out)
    assert set(found["broken"]) == {"broken", "empty"}
    assert {"delay_scan", "hbt"} <= {experiment["name"] for experiment in found["experiments"]}
    assert "broken: cannot be used" in labctl("list").out
