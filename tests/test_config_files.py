"""Configuration files: every mistake is reported with file, line and what is expected."""

import pytest

from labctl.bench.config import load_bench
from labctl.config_files import ConfigError
from labctl.loading import list_configs

GOOD = """\
bench: b
instruments:
  meter:
    driver: drivers.power_meters.thorlabs_pm100d:ThorlabsPm100d
    address: tcp://127.0.0.1:1
"""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("bench: b\ninstruments: [\n", 3, "not valid YAML"),
        ("- a\n", 1, "expected a mapping"),
        (GOOD.replace("address", "adress"), 5, "did you mean 'address'"),
        (GOOD.replace("bench: b\n", ""), 1, "'bench' is missing"),
        (GOOD.replace(":ThorlabsPm100d", ""), 4, "driver"),
        (GOOD.replace("    address: tcp://127.0.0.1:1\n", "    identity: x\n"), 1, "meter needs an address"),
        (GOOD.replace("tcp://127.0.0.1:1", "twin://meter"), 1, "the bench names no twin"),
        (GOOD + "  a:\n    driver: x.y:Z\n    uses: {meter: metre}\n", 1, "did you mean 'meter'"),
        (GOOD + "roles: {power: metre}\n", 1, "did you mean 'meter'"),
    ],
)
def test_mistakes_are_located(tmp_path, text, line, said):
    file = tmp_path / "b.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_bench(str(file))
    assert str(caught.value).startswith(f"{file}:{line}: ")


def test_a_good_file_passes(tmp_path):
    file = tmp_path / "b.yaml"
    file.write_text(GOOD)
    assert load_bench(str(file))[0].instruments["meter"].address == "tcp://127.0.0.1:1"


@pytest.mark.parametrize("name", sorted(list_configs("benches")))
def test_bundled_benches_are_valid(name):
    config, _ = load_bench(name)
    assert config.bench == name
