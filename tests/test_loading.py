"""Names in configurations: the user's own folders first, then what comes with labctl."""

import pytest

from labctl.loading import NotFound, experiment_files, find_config, load_object, nearest

MINE = "class Mine:\n    where = __file__\n"


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    (tmp_path / "lab" / "drivers" / "lasers").mkdir(parents=True)
    (tmp_path / "lab" / "drivers" / "lasers" / "mine.py").write_text(MINE)
    (tmp_path / "lab" / "experiments").mkdir()
    (tmp_path / "lab" / "experiments" / "mine.py").write_text(MINE)
    (tmp_path / "lab" / "configs" / "benches").mkdir(parents=True)
    (tmp_path / "lab" / "configs" / "benches" / "mine.yaml").write_text("bench: mine\n")
    (tmp_path / "labctl.toml").write_text('path = ["lab"]\n')
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "lab"


def test_own_files_are_found_from_below(own_folder):
    assert load_object("drivers.lasers.mine:Mine").where.startswith(str(own_folder))
    assert experiment_files()["mine"].parent.parent == own_folder
    assert find_config("benches", "mine").is_relative_to(own_folder)


def test_bundled_files_are_found_beside_own_ones(own_folder):
    assert "delay_scan" in experiment_files()
    assert find_config("benches", "sim_dot").is_file()


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(NotFound, match="did you mean 'sim_dot'"):
        find_config("benches", "sim_dog")
    with pytest.raises(NotFound, match=r"no module 'drivers.lasers.nothing'"):
        load_object("drivers.lasers.nothing:X")
    with pytest.raises(NotFound, match=r"has no 'Lineal'.*did you mean 'Linear'"):
        load_object("labctl.sweeps:Lineal")


def test_nearest_lists_what_there_is():
    assert nearest("x", []) == " (known: none)"
    assert nearest("dely", ["delay", "mu"]) == "; did you mean 'delay'? (known: delay, mu)"
