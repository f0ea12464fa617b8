"""What a benchmark found: one table, and the bars that it is held to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """An upper limit and what was measured; `unit` is that of both."""

    text: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Whether the figure stays below the limit."""
        return self.measured <= self.limit


@dataclass(frozen=True)
class Report:
    """One table of a topic; numbers are shown with four digits."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str | float, ...]]
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"bars": [asdict(bar) | {"kept": bar.kept} for bar in self.bars]}

    def show(self) -> None:
        """Print table, bars and notes."""
        table = Table(*self.columns, title=self.title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(*(cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row))
        console = Console(highlight=False)
        console.print(table)
        for bar in self.bars:
            verdict = "kept" if bar.kept else "MISSED"
            console.print(f"{verdict:6s} {bar.text}: {bar.measured:.3g} {bar.unit} (at most {bar.limit:g})")
        for note in self.notes:
            console.print(note, soft_wrap=True)
