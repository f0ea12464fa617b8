"""The page on dry runs: its commands work, shortened, and print the lines and tables that it shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.commands import ROOT, labctl_process
from tests.docs.readme_blocks import Block, blocks_of, commands_of, labels_of, normal

PAGE = ROOT / "docs" / "how-to" / "dry-run.md"
CONSOLE = [block for block in blocks_of(PAGE) if block.language == "console"]
WEAK = ("max_power_w: 1.1983545 mW", "max_power_w: 0.1 mW")


@pytest.mark.parametrize("block", [b for b in CONSOLE if b.remark("tested with")], ids=lambda b: str(b.line))
def test_reports_have_the_lines_and_rows_that_are_shown(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (item,) = commands_of(block)
    _, *arguments = shlex.split(block.remark("tested with") or "")
    ended = labctl_process(tmp_path, *arguments)
    assert (ended.code, list(tmp_path.iterdir())) == (0, []), ended.err
    assert normal(item.output[0]) == normal(ended.out.splitlines()[0])
    assert set(labels_of(item.output)) <= set(labels_of(ended.out.splitlines()))


def test_the_problem_of_the_weak_bench_is_the_one_that_is_shown(tmp_path: Path) -> None:
    (block,) = [block for block in CONSOLE if "weak_lab" in block.text]
    text = (ROOT / "configs" / "benches" / "dot_lab.yaml").read_text(encoding="utf-8")
    (tmp_path / "weak_lab.yaml").write_text(text.replace(*WEAK), encoding="utf-8")
    ended = labctl_process(tmp_path, "run", "delay_scan", "--bench", "weak_lab.yaml", "--dry-run")
    said = ended.err.splitlines()[-1]
    (item,) = commands_of(block)
    assert (ended.code, said) == (2, item.output[-1])
