"""`labctl analyze`: a time-tag recording from a file."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from labctl.analysis.recording import RecordingReport, analyze_recording, plot_report
from labctl.cli.output import print_json, print_table, print_text
from labctl.cli.runs import ParameterError, check_writable
from labctl.quantities import QuantityError, format_quantity, parse_quantity
from labctl.store import RunWriter
from labctl.timetags import read_tags

_TRACE = "trace"


def analyze_file(
    file: Path,
    *,
    pair: tuple[int, int] | None,
    window: str,
    bin_: str,
    pulsed: int | None,
    store: bool,
    figure: Path | None,
    as_json: bool,
    root: Path,
) -> None:
    """Report on a recording, write its figure, and import it as a run if asked."""
    if not file.is_file():
        raise ParameterError(f"no file {file}")
    drawing = figure or Path(f"{file.name}.png")
    _check_format(drawing)
    if store:
        check_writable(root)
    report = _report(file, pair, *_lags(window, bin_), pulsed)
    _draw(report, drawing)
    run = _import(file, report, root) if store else None
    if as_json:
        extra = {"figure": str(drawing)} | ({"run": str(run)} if run else {})
        print_json(report.as_dict() | extra)
        return
    _print(report)
    print_text(str(drawing))
    if run is not None:
        print_text(str(run))


def _report(
    file: Path, pair: tuple[int, int] | None, window_ps: int, bin_ps: int, pulsed: int | None
) -> RecordingReport:
    """The report, with a line in its audit for every channel of the pair that has no tags."""
    try:
        report = analyze_recording(file, [pair] if pair else None, window_ps, bin_ps, pulsed)
    except ValueError as error:
        about = "" if file.name in str(error) else f"{file}: "
        raise ParameterError(f"{about}{error}") from error
    present = ", ".join(map(str, report.channels)) or "none"
    missing = [
        f"channel {channel} of the pair has no tags; channels with tags: {present}"
        for channel in sorted(set(pair or ()) - set(report.channels))
    ]
    return replace(report, audit=report.audit + missing)


def _lags(window: str, bin_: str) -> tuple[int, int]:
    """Window and bin in ps. Raises ParameterError when the bins do not fill the window."""
    window_ps, bin_ps = _picoseconds("--window", window), _picoseconds("--bin", bin_)
    if window_ps % bin_ps:
        fitting = format_quantity(max(window_ps // bin_ps, 1) * bin_ps * 1e-12, "s", 9)
        raise ParameterError(
            f"--window {window!r} is not a multiple of --bin {bin_!r}; write for example --window {fitting!r}"
        )
    return window_ps, bin_ps


def _check_format(figure: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.get_supported_filetypes()
    if figure.suffix.removeprefix(".").lower() not in known:
        raise ParameterError(f"--figure {figure}: no such format of figures; known: {', '.join(known)}")
    if not figure.absolute().parent.is_dir():
        raise ParameterError(f"--figure {figure}: there is no folder {figure.parent}")


def _picoseconds(option: str, text: str) -> int:
    try:
        value = round(parse_quantity(text, "s") * 1e12)
    except QuantityError as error:
        raise ParameterError(f"{option}: {error}") from error
    if value < 1:
        raise ParameterError(f"{option} {text!r} must be at least 1 ps")
    return value


def _draw(report: RecordingReport, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=110)
    FigureCanvasAgg(figure)
    plot_report(report, figure)
    figure.savefig(path)


def _print(report: RecordingReport) -> None:
    print_text(f"{report.file}: {report.mode}, {report.records} records, {report.duration_s:.6g} s")
    rows = [
        [
            str(channel),
            str(number),
            f"{number / report.duration_s / 1e3:.4g} kcps" if report.duration_s else "",
        ]
        for channel, number in report.channels.items()
    ]
    print_table("channels", ["channel", "tags", "mean rate"], rows)
    for correlation in report.correlations:
        a, b = correlation.pair
        edges = correlation.lag_edges_ps
        print_text(
            f"pair {a} x {b}: {int(correlation.counts.sum())} pairs with lags in "
            f"[{edges[0] / 1e3:g}, {edges[-1] / 1e3:g}) ns"
        )
    for pulsed in report.pulsed:
        zero = int(pulsed.counts[len(pulsed.counts) // 2])
        print_text(f"pair {pulsed.pair[0]} x {pulsed.pair[1]}: {zero} coincidences from one pulse")
    print_text("audit: " + ("nothing found" if not report.audit else ""))
    for finding in report.audit:
        print_text(f"  {finding}")


def _import(file: Path, report: RecordingReport, root: Path) -> Path:
    header = {
        "title": f"Recording {file.name}",
        "parameters": {"file": str(file.resolve())},
        "audit": report.audit,
        "command": shlex.join(["labctl", *sys.argv[1:]]),
        "default_plot": {"sweep": _TRACE, "axis": "elapsed", "signal": "rate", "errors": ""},
    }
    writer = RunWriter.create(root, "recording", header)
    units = {"elapsed": "s", "rate": "1/s"}
    for index, (begin_s, rate) in enumerate(zip(report.trace.begins_s, report.trace.rates_hz, strict=True)):
        writer.row(_TRACE, index, 0, {"elapsed": float(begin_s), "rate": float(rate)}, units, float(begin_s))
    channels = {channel: str(channel) for channel in report.channels}
    number = writer.begin_acquisition(channels, _TRACE, 0, 0.0)
    live_ps = 0
    for block in read_tags(file).blocks():
        writer.tags(number, block)
        live_ps += block.live_time_ps
    writer.end_acquisition(number, live_ps)
    return writer.finish("success").parent
