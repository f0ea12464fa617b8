"""Mid-infrared control of blinking: the grey trion is turned back into the bright exciton.

Blocks with the MIR gate open and shut alternate in random ABBA order, so that slow drifts cancel. The
telegraph between bright and grey is followed in intervals of one MIR period by a hidden Markov model in
which every MIR pulse may discharge the dot; the fraction of time that the dot is charged, with and
without MIR pulses, comes out with errors that contain the telegraph noise.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from pydantic import Field

from labctl.analysis.blinking import fit_blinking_control
from labctl.instruments.capabilities import Excitation, MirField, PulsedSource, Shutter, TimeTagger
from labctl.quantities import Hertz, Number, Seconds, VoltsPerMetre
from labctl.runs import Analysis, Experiment, Run
from labctl.runs.experiment import DefaultPlot
from labctl.runs.replay import counts_per_period
from labctl.store import RunData
from labctl.sweeps import Axis, Linear

DET_A, DET_B, MIR_SYNC = 1, 2, 4
SETTLE_S = 0.5
"""After the gate has moved: several times 1/(k_c + k_d), in which the dot forgets the gate's last state."""
IONISATION_FIELD = 7e8
"""Above this field MIR pulses also ionise the bright dot, and the model must allow for it."""


class BlinkingControl(Experiment):
    """Interleaved MIR on/off: fraction of time in the grey trion, and how far MIR pulses lower it."""

    name: ClassVar[str] = "blinking_control"
    roles: ClassVar[dict[str, type]] = {
        "tagger": TimeTagger,
        "diode": PulsedSource,
        "excitation": Excitation,
        "mir_field": MirField,
        "mir_gate": Shutter,
    }
    records: ClassVar[dict[str, str]] = {"mir_on": "", "rate": "1/s", "rate_error": "1/s"}
    default_plot: ClassVar[DefaultPlot | None] = DefaultPlot("blocks", "block", "rate", "rate_error")

    pairs: int = Field(10, ge=1, le=1000, description="pairs of one block with and one without MIR pulses")
    dwell: Seconds = Field(20.0, ge=0.1, le=3600, description="live time per block")
    field: VoltsPerMetre = Field(5e8, ge=0, le=12e8, description="peak MIR field at the dot, in vacuum")
    mean_excitons: Number = Field(0.1, gt=0, le=1, description="mean number of excitons per visible pulse")
    rate: Hertz = Field(2.5e6, ge=0.5e6, le=2.5e6, description="visible pulses per second within a burst")

    def duration_s(self) -> float:
        return 2 * self.pairs * self.dwell

    def scaled(self, factor: float) -> Self:
        pairs = max(2, round(self.pairs * min(1.0, factor**0.5)))
        return self.model_copy(update={"pairs": pairs, "dwell": factor * self.duration_s() / (2 * pairs)})

    def run(self, run: Run) -> None:
        bench = run.bench
        bench.diode.synchronised(True)
        bench.diode.rate(self.rate)
        bench.excitation.mean_excitons(self.mean_excitons)
        bench.mir_field.field(self.field)
        pattern = gate_pattern(self.pairs, run.seed)
        blocks = Axis((Linear(0, len(pattern) - 1, len(pattern)),))
        with run.emission(bench.diode, bench.mir_gate):
            for point in run.sweep("blocks", block=blocks):
                mir_on = pattern[point.index]
                run.switch(bench.mir_gate, mir_on)
                run.wait(SETTLE_S)
                tags = run.acquire(bench.tagger, self.dwell, channels=[DET_A, DET_B, MIR_SYNC])
                point.record(
                    mir_on=mir_on, rate=tags.rate(DET_A, DET_B), rate_error=tags.rate_error(DET_A, DET_B)
                )

    def analyse(self, data: RunData) -> Analysis:
        interval_s = 1 / data.header["bench_values"]["mir_rate_hz"]
        rows = data.rows("blocks")
        mir_on = dict(zip(rows["index"], rows["mir_on"], strict=True))
        blocks: dict[bool, list[Any]] = {True: [], False: []}
        dark_blocks = []
        for acquisition in data.acquisitions:
            if acquisition.sweep != "blocks" or acquisition.index not in mir_on:
                continue
            on = bool(mir_on[acquisition.index])
            counts, synced = counts_per_period(data, acquisition, [DET_A, DET_B], MIR_SYNC, interval_s)
            blocks[on].append(counts)
            if on and not synced:
                dark_blocks.append(acquisition.index)
        fit = fit_blinking_control(
            blocks[False], blocks[True], interval_s, with_ionisation=self.field >= IONISATION_FIELD
        )
        notes = []
        if dark_blocks:
            notes.append(
                f"no MIR pulses were seen (channel {MIR_SYNC}) in {len(dark_blocks)} of {len(blocks[True])} "
                f"blocks with the gate open: {', '.join(map(str, dark_blocks))}",
            )
        curves = {
            "off": np.concatenate(blocks[False]),
            "on": np.concatenate(blocks[True]),
            "interval_s": interval_s,
            "index": rows["index"],
            "mir_on": rows["mir_on"],
            "rate": rows["rate"],
        }
        return Analysis(list(fit.estimates.values()), fit.verdict, notes, curves)

    def truth(self, twin: dict[str, Any]) -> dict[str, float]:
        taken = list(twin["acquisitions"].values())
        kicked = [t for t in taken if t["discharge_probability"] > 0]
        if not kicked:
            return {}
        off = kicked[0]["p_t_stationary_without_kicks"]
        on = kicked[0]["p_t_stationary"]
        return {
            "trion_fraction_off": off,
            "trion_fraction_on": on,
            "trion_fraction_ratio": on / off,
            "k_c": kicked[0]["charging_rate_per_s"],
            "k_d": kicked[0]["neutralisation_rate_per_s"],
            "p_d": kicked[0]["discharge_probability"],
        }

    def plot(self, data: RunData, analysis: Analysis, figure: Figure) -> None:
        curves = analysis.curves
        grid = figure.add_gridspec(2, 2)
        traces = figure.add_subplot(grid[0, :])
        bin_s = 0.01
        histogram = figure.add_subplot(grid[1, 0])
        for name, colour in (("off", "C3"), ("on", "C0")):
            counts = rebinned(curves[name], round(bin_s / curves["interval_s"]))
            shown = counts[: round(4 / bin_s)]
            offset = 0 if name == "off" else 4
            times = offset + np.arange(len(shown)) * bin_s
            traces.plot(times, shown / bin_s / 1e3, lw=0.7, color=colour, label=f"MIR {name}")
            edges = np.arange(0, max(int(counts.max()), 1) + 4, 4)
            histogram.hist(
                counts / bin_s / 1e3,
                list(edges / bin_s / 1e3),
                density=True,
                histtype="step",
                color=colour,
                label=f"MIR {name}",
            )
        traces.set_xlabel("time (s), the first 4 s of each")
        traces.set_ylabel("count rate (kcps)")
        traces.legend(loc="lower right", ncols=2)
        traces.set_title(_title(analysis))
        histogram.set_xlabel("count rate in 10 ms (kcps)")
        histogram.set_ylabel("probability density")
        histogram.legend(loc="upper left")
        self._plot_blocks(analysis, figure.add_subplot(grid[1, 1]))

    def _plot_blocks(self, analysis: Analysis, axes: Axes) -> None:
        curves = analysis.curves
        for on, name, colour in ((False, "off", "C3"), (True, "on", "C0")):
            chosen = curves["mir_on"].astype(bool) == on
            axes.plot(
                curves["index"][chosen],
                curves["rate"][chosen] / 1e3,
                "o",
                ms=4,
                color=colour,
                label=f"MIR {name}",
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block, in the order taken")
        axes.set_ylabel("mean count rate (kcps)")
        axes.legend()


def _title(analysis: Analysis) -> str:
    by_name = {estimate.quantity: estimate for estimate in analysis.estimates}
    if "trion_fraction_on" not in by_name:
        return f"blinking control: {analysis.verdict}"
    off, on = by_name["trion_fraction_off"], by_name["trion_fraction_on"]
    return (
        f"grey trion {100 * off.value:.1f} ± {100 * off.error:.1f} % of the time without MIR pulses, "
        f"{100 * on.value:.2f} ± {100 * on.error:.2f} % with them"
    )


def rebinned(counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Sums of `n` neighbouring counts; an incomplete last bin is left out."""
    whole = len(counts) // n * n
    return counts[:whole].reshape(-1, n).sum(axis=1)


def gate_pattern(pairs: int, seed: int) -> list[bool]:
    """On or off for each block: pairs AB BA AB BA ..., beginning with a random one of the two."""
    first = random.Random(seed).random() < 0.5
    pattern: list[bool] = []
    for pair in range(pairs):
        leading = first if pair % 2 == 0 else not first
        pattern += [leading, not leading]
    return pattern
