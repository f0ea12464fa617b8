"""The README as a script: its fenced blocks, and what each is good for.

A comment on the line above a block says what it is: a file to write, a command that stands for a longer one,
the output of the Python block before it, or something that is not executed here and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_RUN_NAME = re.compile(r"\d{6}_(\w+)_[0-9a-f]{6}")
_BORDERS = re.compile(r"[\s\u2500-\u257f]+")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the comment above it, its text and the line where it begins."""

    language: str
    note: str
    text: str
    line: int

    def remark(self, kind: str) -> str | None:
        """What follows `kind: ` in the comment, None when the comment is another."""
        name, _, rest = self.note.partition(": ")
        return rest if name == kind else None


@dataclass(frozen=True)
class Command:
    """A command of a console block and the lines shown under it."""

    command: str
    shown: list[str]

    @property
    def interrupted(self) -> bool:
        """Whether the reader is shown that Ctrl-C ends it."""
        return self.shown[-1:] == ["^C"]

    @property
    def output(self) -> list[str]:
        """What the command prints."""
        return self.shown[:-1] if self.interrupted else self.shown


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a Markdown page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["note"] or "", m["text"], text.count("\n", 0, m.start("language")) + 1)
        for m in _BLOCK.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a console block."""
    command, shown = "", list[str]()
    for line in block.text.splitlines():
        if not line.startswith("$ "):
            shown.append(line)
            continue
        if command:
            yield Command(command, shown)
        command, shown = line.removeprefix("$ "), []
    yield Command(command, shown)


def links_of(page: Path) -> list[str]:
    """Targets of the relative links and images of a page, without fragments."""
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    return [t.partition("#")[0] for t in targets if "://" not in t and not t.startswith("#")]


def first_missing(shown: list[str], printed: str) -> str | None:
    """The first line of `shown` that `printed` lacks, None when all occur in this order.

    Numbers, names of runs and the widths of tables may differ; `...` stands for anything.
    """
    lines = iter(normal(line) for line in printed.splitlines())
    for line in shown:
        if line.strip() in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in normal(line).split("...")))
        if not any(pattern.fullmatch(candidate) for candidate in lines):
            return line
    return None


def labels_of(lines: list[str]) -> list[str]:
    """First cells of the rows of the tables among `lines`."""
    return [line.split("│")[1].strip() for line in lines if line.startswith("│")]


def normal(line: str) -> str:
    """A line without what may vary."""
    named = _RUN_NAME.sub(r"\1", line)
    numbers = _NUMBER.sub("#", _BORDERS.sub(" ", named))
    return numbers.replace("# # #", "# ± #").strip()
