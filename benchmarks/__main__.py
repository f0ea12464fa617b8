"""Run the benchmarks and print one table per topic.

    python -m benchmarks [TOPIC ...] [--json FILE]

A topic is a module of this package with `main()`, which prints its figures and may return them as a Report.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from pathlib import Path

from benchmarks.report import Report

TOPICS = ("engine", "overhead", "store", "timetags", "timetags_kinds", "timetags_live")


def main() -> None:
    """The command line."""
    topics = [topic for topic in TOPICS if importlib.util.find_spec(f"benchmarks.{topic}")]
    parser = argparse.ArgumentParser(prog="benchmarks", description="What labctl costs, beside its peers.")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"{', '.join(topics)}; default: all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    unknown = set(options.topics) - set(topics)
    if unknown:
        parser.error(f"no topic {', '.join(sorted(unknown))}; there are {', '.join(topics)}")
    reports = {topic: _measure(topic) for topic in options.topics or topics}
    if options.json is not None:
        found = {topic: report.as_dict() for topic, report in reports.items() if report is not None}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _measure(topic: str) -> Report | None:
    report = importlib.import_module(f"benchmarks.{topic}").main()
    return report if isinstance(report, Report) else None


if __name__ == "__main__":
    main()
