"""Everything that the README shows is done here, in its order, in a folder of the reader's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.docs.reader import CHECKOUT, Lab
from tests.docs.readme_blocks import blocks_of, links_of
from tests.timetags.ptu_writer import FAMILIES, T2, Event, encode, write_ptu

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
README = blocks_of(CHECKOUT / "README.md")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """The reader's folder with every file that the README shows, and a recording to analyse."""
    place = Lab(tmp_path)
    place.write_files(README)
    _write_recording(place.folder / "measurement.ptu")
    return place


def _write_recording(path: Path) -> None:
    """Two detectors at 10 kcps each for 2 s."""
    rng = np.random.default_rng(7)
    clicks = np.sort(rng.integers(0, 2_000_000_000, 40_000))  # ns
    channels = rng.integers(0, 2, clicks.size)
    events = [Event(int(c), int(t)) for c, t in zip(channels, clicks, strict=True)]
    record_type = FAMILIES["HydraHarpV2"] | T2
    write_ptu(path, encode(events, record_type), record_type, global_resolution_s=1e-9)


def test_everything_shown_works(lab: Lab) -> None:
    lab.work_through("README.md", README)


def test_examples_are_clean(lab: Lab) -> None:
    assert lab.check_examples(README) == ["experiments/darks.py"]


def test_experiment_is_as_short_as_promised() -> None:
    (experiment,) = [b for b in README if b.remark("file") == "experiments/darks.py"]
    assert len(experiment.text.splitlines()) <= 60


def test_only_installation_is_not_executed() -> None:
    skipped = [b for b in README if b.note.startswith("not executed here")]
    words = {line.split()[1] for b in skipped for line in b.text.splitlines()}
    assert words <= {"make", "uv", "pip", "python3", "git"}


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in links_of(page) if not (page.parent / link).exists()]
    assert not broken
