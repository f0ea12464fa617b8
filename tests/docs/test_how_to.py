"""The how-to pages are done as they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.reader import CHECKOUT, Lab
from tests.docs.readme_blocks import blocks_of

PAGES = ("add-a-driver", "notifications", "pause-and-resume", "runs-catalogue")


@pytest.mark.parametrize("page", PAGES)
def test_everything_shown_works(tmp_path: Path, page: str) -> None:
    file = CHECKOUT / "docs" / "how-to" / f"{page}.md"
    lab, blocks = Lab(tmp_path), blocks_of(file)
    lab.write_files(blocks)
    lab.work_through(file.name, blocks)
    examples = [path for block in blocks if (path := block.remark("file")) and path.endswith(".py")]
    if examples:
        settings = ("--config", str(CHECKOUT / "pyproject.toml"), "--ignore", "T201")  # they are programs
        lab.run("python", "-m", "ruff", "check", *settings, *examples)


def test_the_driver_is_clean(tmp_path: Path) -> None:
    lab, blocks = Lab(tmp_path), blocks_of(CHECKOUT / "docs" / "how-to" / "add-a-driver.md")
    lab.write_files(blocks)
    assert len(lab.check_examples(blocks)) == 2
