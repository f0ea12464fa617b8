"""What is in a tag file: its audit, rates, correlations and decays, ready for JSON and for a figure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.timetags import (
    G2,
    Correlation,
    IntensityTrace,
    Pipeline,
    PulsePairs,
    TagFile,
    TagFileError,
    audit,
    read_tags,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DEFAULT_CHANNELS = 4
_TRACE_BINS = 500


@dataclass(frozen=True)
class PairCorrelation:
    """Correlation of an ordered pair: counts int64[n] by lag t_second - t_first, edges int64[n + 1] in ps."""

    pair: tuple[int, int]
    lag_edges_ps: NDArray[np.int64]
    counts: NDArray[np.int64]
    g2: G2

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "pair": list(self.pair),
            "lag_edges_ps": self.lag_edges_ps.tolist(),
            "counts": self.counts.tolist(),
        }


@dataclass(frozen=True)
class PulsedPair:
    """T3 coincidences of an ordered pair by pulse-number difference nsync_second - nsync_first."""

    pair: tuple[int, int]
    lags: NDArray[np.int64]
    counts: NDArray[np.int64]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"pair": list(self.pair), "lags": self.lags.tolist(), "counts": self.counts.tolist()}


@dataclass(frozen=True)
class Decay:
    """T3 decay of one channel: counts int64[n] by dtime, edges float64[n + 1] in ps."""

    channel: int
    edges_ps: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class RateTrace:
    """Photons of all channels in consecutive bins: begins_s float64[n], rates_hz float64[n]."""

    begins_s: NDArray[np.float64]
    rates_hz: NDArray[np.float64]


@dataclass(frozen=True)
class RecordingReport:
    """Everything `analyze_recording` found out about one file.

    records: TTTR records in the file. channels: tags by channel (999 T2 sync, 1000 + m markers). audit:
    findings, one line each. pulsed and decays are empty for T2 files.
    """

    file: str
    mode: str
    records: int
    channels: dict[int, int]
    duration_s: float
    audit: list[str]
    correlations: list[PairCorrelation]
    pulsed: list[PulsedPair]
    decays: list[Decay]
    trace: RateTrace

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: file, records, channels, duration_s, audit, correlations, pulsed."""
        return {
            "file": self.file,
            "records": self.records,
            "channels": {str(channel): number for channel, number in self.channels.items()},
            "duration_s": self.duration_s,
            "audit": list(self.audit),
            "correlations": [correlation.as_dict() for correlation in self.correlations],
            "pulsed": [pulsed.as_dict() for pulsed in self.pulsed],
        }


def analyze_recording(
    path: str | PathLike[str],
    pairs: Sequence[tuple[int, int]] | None = None,
    window_ps: int = 100_000,
    bin_ps: int = 1_000,
    pulsed: int | None = None,
) -> RecordingReport:
    """Audit and correlate a tag file.

    pairs: (first, second) channels; by default all first <= second of the first four photon channels present.
    Correlations count pairs by lag t_second - t_first in half-open bins of bin_ps over
    [-window_ps, window_ps).
    pulsed: for T3 files, count coincidences by pulse-number difference from -pulsed to pulsed.

    Where the clock of the file goes back, all histograms end before the slice in which it does (a million
    records at most) and the audit says so.
    Raises TagFileError for a file that cannot be read, ValueError for bad windows or `pulsed` on a T2 file.
    """
    tagfile = read_tags(path)
    wanted = _default_pairs(tagfile) if pairs is None else [(int(a), int(b)) for a, b in pairs]
    if pulsed is not None and tagfile.mode != "T3":
        raise ValueError(
            f"{tagfile.path.name} is a {tagfile.mode} file: pulse-number coincidences need T3 records"
        )
    findings = audit(tagfile)
    correlations, trace, stopped = _correlate_file(tagfile, wanted, window_ps, bin_ps)
    coincidences, decays = _by_pulse(tagfile, wanted, pulsed)
    return RecordingReport(
        file=str(path),
        mode=tagfile.mode,
        records=tagfile.records,
        channels=tagfile.channels,
        duration_s=tagfile.duration_s,
        audit=findings + stopped,
        correlations=correlations,
        pulsed=coincidences,
        decays=decays,
        trace=trace,
    )


def _default_pairs(tagfile: TagFile) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(tagfile.photon_channels[:_DEFAULT_CHANNELS], 2))


def _correlate_file(
    tagfile: TagFile, pairs: list[tuple[int, int]], window_ps: int, bin_ps: int
) -> tuple[list[PairCorrelation], RateTrace, list[str]]:
    trace = IntensityTrace(tagfile.photon_channels, max(tagfile.duration_ps // _TRACE_BINS, 1))
    correlation = Correlation([c for pair in pairs for c in pair] or [0], window_ps, bin_ps)
    pipeline = Pipeline(trace, correlation)
    stopped = []
    try:
        for block in tagfile.blocks():
            pipeline.update(block)
    except TagFileError as error:
        live_s = pipeline.live_time_ps * 1e-12
        stopped.append(f"correlations, rates and decays cover only the first {live_s:.6g} s: {error}")
    found = [
        PairCorrelation((a, b), correlation.lag_edges_ps, correlation.counts(a, b), correlation.g2(a, b))
        for a, b in pairs
    ]
    return found, _rate_trace(trace, tagfile), stopped


def _rate_trace(trace: IntensityTrace, tagfile: TagFile) -> RateTrace:
    bin_s = max(tagfile.duration_ps // _TRACE_BINS, 1) * 1e-12
    counts = trace.counts
    return RateTrace(np.arange(counts.size, dtype=np.float64) * bin_s, counts / bin_s)


def _by_pulse(
    tagfile: TagFile, pairs: list[tuple[int, int]], pulsed: int | None
) -> tuple[list[PulsedPair], list[Decay]]:
    if tagfile.mode != "T3":
        return [], []
    coincidences = {} if pulsed is None else {pair: PulsePairs(pulsed, 1) for pair in pairs}
    histograms: dict[int, NDArray[np.int64]] = {c: np.zeros(1, np.int64) for c in tagfile.photon_channels}
    # where the clock goes back both end like the correlations, whose audit line says so
    with suppress(TagFileError):
        for tags in tagfile.t3_records():
            for (a, b), counter in coincidences.items():
                mine = (tags.channels == a) | (tags.channels == b)
                counter.feed(tags.nsync[mine], tags.channels[mine] == a, tags.channels[mine] == b)
            for channel in histograms:
                more = np.bincount(tags.dtimes[tags.channels == channel])
                histograms[channel] = _sum(histograms[channel], more)
    decays = [
        Decay(channel, tagfile.resolution_ps * np.arange(counts.size + 1, dtype=np.float64), counts)
        for channel, counts in histograms.items()
    ]
    found = [PulsedPair(pair, counter.lags, counter.counts) for pair, counter in coincidences.items()]
    return found, decays


def _sum(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(max(a.size, b.size), np.int64)
    total[: a.size] += a
    total[: b.size] += b
    return total


def plot_report(report: RecordingReport, figure: Figure) -> None:
    """Draw rate trace, one panel per correlation and, for T3 files, the decays on a logarithmic scale."""
    panels = 1 + len(report.correlations) + bool(report.decays)
    columns = 1 if panels < 4 else 2
    axes = figure.subplots(-(-panels // columns), columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.set_axis_off()
    _plot_trace(axes[0], report)
    for panel, correlation in zip(axes[1:], report.correlations, strict=False):
        _plot_correlation(panel, correlation)
    if report.decays:
        _plot_decays(axes[panels - 1], report.decays)
    figure.tight_layout()


def _plot_trace(axes: Axes, report: RecordingReport) -> None:
    axes.step(report.trace.begins_s, report.trace.rates_hz * 1e-3, where="post", linewidth=0.8)
    axes.set(xlabel="time (s)", ylabel="rate (kcps)", title=report.file.rsplit("/", 1)[-1])
    axes.set_ylim(bottom=0)


def _plot_correlation(axes: Axes, correlation: PairCorrelation) -> None:
    edges_ns = correlation.lag_edges_ps * 1e-3
    axes.stairs(correlation.counts, edges_ns, baseline=None)
    a, b = correlation.pair
    width_ns = edges_ns[1] - edges_ns[0]
    axes.set(xlabel=f"lag t_{b} − t_{a} (ns)", ylabel=f"pairs per {width_ns:g} ns", title=f"{a} × {b}")
    axes.set_ylim(bottom=0)
    _add_g2_axis(axes, correlation.g2)


def _add_g2_axis(axes: Axes, g2: G2) -> None:
    expected = float(np.mean(g2.expected))
    if expected <= 0:
        return
    scale = axes.secondary_yaxis(
        "right", functions=(partial(np.multiply, 1.0 / expected), partial(np.multiply, expected))
    )
    scale.set_ylabel("g²")


def _plot_decays(axes: Axes, decays: list[Decay]) -> None:
    for decay in decays:
        counts = np.where(decay.counts > 0, decay.counts, np.nan)
        axes.stairs(counts, decay.edges_ps * 1e-3, baseline=None, label=f"channel {decay.channel}")
    axes.set(xlabel="time after sync (ns)", ylabel="counts", yscale="log", title="decay")
    axes.legend(fontsize="small")
