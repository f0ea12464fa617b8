"""Twin files: loading, errors with file and line, overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.config_files import ConfigError, with_overrides
from labctl.twin.config import WorldConfig, load_twin

SIM_DOT = Path(__file__).parents[2] / "configs" / "twins" / "sim_dot.yaml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "twin.yaml"
    path.write_text(text)
    return path


def test_shipped_twin_states_the_defaults() -> None:
    twin = load_twin(SIM_DOT)
    assert twin.world == WorldConfig()
    assert set(twin.devices) == {
        "cw_laser", "delay_generator", "vis_rotator", "mir_rotator", "power_meter", "tagger"
    }  # fmt: skip
    assert twin.devices["tagger"].vendor_module == "drivers.taggers.sim.swabian_api"


def test_trion_yield_and_lifetime_agree() -> None:
    dot = WorldConfig().dot
    assert dot.tau_t_s == pytest.approx(dot.eta_t * dot.tau_x_s / dot.eta_x / 2, rel=1e-3)
    assert dot.tau_bx_s == pytest.approx(dot.eta_bx * dot.tau_x_s / dot.eta_x / 4, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "name: a\nworld:\n  dot:\n    tau_xs_s: 1e-9\n",
            4,
            ["world.dot.tau_xs_s", "did you mean 'tau_x_s'?"],
        ),
        ("name: a\nworld:\n  dot:\n    tau_x_s: -1.0\n", 4, ["world.dot.tau_x_s", "greater than 0", "-1.0"]),
        ("name: a\nworld:\n  detection:\n    skew_ps: {1: 0}\n", 3, ["exactly the channels"]),
        ("seed: 3\n", 1, ["'name' is missing"]),
        ("name: a\ndevices:\n  l:\n    sim: a.b:C\n    transport: pigeon\n", 5, ["transport", "pigeon"]),
        ("name: a\ndevices:\n  l:\n    sim: a.b:C\n    transport: vendor\n", 3, ["vendor_module"]),
        ("name: [a\n", 2, ["not valid YAML"]),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_twin(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    for word in words:
        assert word in str(caught.value)


def test_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_twin(tmp_path / "none.yaml")


def test_overrides() -> None:
    twin = load_twin(SIM_DOT)
    changed = with_overrides(twin, {"world.dot.tau_x_s": 21e-9, "world.detection.skew_ps.2": 900, "seed": 5})
    assert (changed.world.dot.tau_x_s, changed.world.detection.skew_ps[2], changed.seed) == (21e-9, 900, 5)
    assert twin.world.dot.tau_x_s == 30e-9
    assert load_twin(SIM_DOT, {"world.dot.tau_x_s": 21e-9}).world.dot.tau_x_s == 21e-9
    with pytest.raises(ConfigError, match=r"no setting 'tau_xs'; did you mean 'tau_x_s'\?"):
        with_overrides(twin, {"world.dot.tau_xs": 1e-9})
    with pytest.raises(ConfigError, match=r"world.dot.eta_x.*less than or equal to 1"):
        with_overrides(twin, {"world.dot.eta_x": 2.0})
    with pytest.raises(ConfigError, match="inside a single value"):
        with_overrides(twin, {"seed.x": 2.0})
