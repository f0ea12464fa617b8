"""Photon correlation of one dot behind a beam splitter (Hanbury Brown and Twiss).

Pulsed: coincidences are counted by the number of pulses between the two photons. The peak at zero,
compared with its near neighbours, is g2(0): how seldom one pulse makes two photons. Near neighbours
share the blinking state, so blinking does not enter. Continuous wave: the dip of g2(tau) around zero.
Dark counts of each detector are measured first, with the light off, and subtracted with their error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from labctl.analysis import dot_physics
from labctl.analysis.dot_physics import DotYields
from labctl.analysis.estimate import Estimate
from labctl.analysis.g2 import Background, cw_g2_zero, fit_pulsed_g2
from labctl.instruments.capabilities import Attenuator, Excitation, Laser, PulsedSource, TimeTagger
from labctl.quantities import Hertz, Number, Seconds, Watts
from labctl.runs import Analysis, Experiment, Run
from labctl.runs.experiment import DefaultPlot
from labctl.runs.replay import replay
from labctl.store import Acquisition, RunData
from labctl.sweeps import Axis, Linear
from labctl.timetags import Correlation, Counts, PulsedCorrelation

DET_A, DET_B, VIS_SYNC = 1, 2, 3
SEGMENT_S = 20.0
NEAR_PEAKS = 20
CW_WINDOW_PS = 200_000
CW_BIN_PS = 500


class Hbt(Experiment):
    """Hanbury Brown-Twiss correlation, pulsed or CW: g2(0) of one dot."""

    name: ClassVar[str] = "hbt"
    roles: ClassVar[dict[str, type]] = {
        "tagger": TimeTagger,
        "diode": PulsedSource,
        "excitation": Excitation,
        "cw_laser": Laser,
        "vis_attenuator": Attenuator,
    }
    records: ClassVar[dict[str, str]] = {"rate": "1/s", "rate_error": "1/s"}
    default_plot: ClassVar[DefaultPlot | None] = DefaultPlot("segments", "elapsed", "rate", "rate_error")

    mode: Literal["pulsed", "cw"] = Field("pulsed", description="excitation: pulsed or cw")
    duration: Seconds = Field(400.0, ge=1, le=36000, description="live time of the correlation")
    dark_time: Seconds = Field(30.0, ge=0.5, le=3600, description="live time of the dark counts, light off")
    mean_excitons: Number = Field(0.1, gt=0, le=1, description="pulsed: mean number of excitons per pulse")
    rate: Hertz = Field(2.5e6, ge=0.5e6, le=2.5e6, description="pulsed: pulses per second")
    cw_power: Watts = Field(0.5e-3, gt=0, le=10e-3, description="cw: power of the laser head")
    cw_transmission: Number = Field(0.2, gt=0, le=1, description="cw: transmission of the visible attenuator")

    def duration_s(self) -> float:
        return self.duration + self.dark_time

    def scaled(self, factor: float) -> Self:
        return self.model_copy(
            update={
                "duration": max(1.0, self.duration * factor),
                "dark_time": max(0.5, self.dark_time * factor),
            }
        )

    def run(self, run: Run) -> None:
        bench = run.bench
        run.acquire(bench.tagger, self.dark_time, channels=[DET_A, DET_B], label="darks")
        source = self._prepare(bench)
        channels = [DET_A, DET_B] if self.mode == "cw" else [DET_A, DET_B, VIS_SYNC]
        segments = max(1, round(self.duration / SEGMENT_S))
        segment_s = self.duration / segments
        bench.tagger.set_conditional_filter([DET_A, DET_B], [VIS_SYNC])
        with run.emission(source):
            for point in run.sweep(
                "segments", elapsed=Axis((Linear(0, self.duration - segment_s, segments),), "s")
            ):
                tags = run.acquire(bench.tagger, segment_s, channels=channels)
                point.record(rate=tags.rate(DET_A, DET_B), rate_error=tags.rate_error(DET_A, DET_B))

    def _prepare(self, bench: Any) -> Any:
        if self.mode == "cw":
            bench.vis_attenuator.transmission(self.cw_transmission)
            bench.cw_laser.power_setpoint(self.cw_power)
            return bench.cw_laser
        bench.diode.synchronised(False)
        bench.diode.rate(self.rate)
        bench.excitation.mean_excitons(self.mean_excitons)
        return bench.diode

    def analyse(self, data: RunData) -> Analysis:
        darks = Counts([DET_A, DET_B])
        replay(data, [a for a in data.acquisitions if a.sweep == "darks"], darks)
        segments = [a for a in data.acquisitions if a.sweep == "segments"]
        analyse = self._analyse_cw if self.mode == "cw" else self._analyse_pulsed
        return analyse(data, segments, darks)

    def _analyse_pulsed(self, data: RunData, segments: list[Acquisition], darks: Counts) -> Analysis:
        pulsed = PulsedCorrelation(DET_A, DET_B, VIS_SYNC, round(1e12 / self.rate), NEAR_PEAKS)
        replay(data, segments, pulsed)
        fit = fit_pulsed_g2(
            pulsed.lags,
            pulsed.counts,
            *pulsed.singles,
            _background(darks, DET_A),
            _background(darks, DET_B),
            pulsed.live_time_ps * 1e-12,
            1 / self.rate,
            near=NEAR_PEAKS,
        )
        found = replace(fit.corrected, quantity="g2_0")
        raw = replace(fit.raw, quantity="g2_0_raw")
        notes = []
        if fit.upper_limit_95 is not None:
            notes.append(
                f"g2(0) is consistent with zero; it is below {fit.upper_limit_95:.3g} at 95 % confidence"
            )
        if pulsed.unassigned:
            notes.append(f"{pulsed.unassigned} photons had no sync tag and were left out")
        curves = {"lags": pulsed.lags, "counts": pulsed.counts, "background": fit.accidentals}
        return Analysis([found, raw], _verdict(found), notes, curves)

    def _analyse_cw(self, data: RunData, segments: list[Acquisition], darks: Counts) -> Analysis:
        values = data.header["bench_values"]
        correlation = Correlation([DET_A, DET_B], window_ps=CW_WINDOW_PS, bin_ps=CW_BIN_PS)
        counts = Counts([DET_A, DET_B])
        replay(data, segments, correlation, counts)
        lag_edges_ps = correlation.lag_edges_ps - round(values["skew_a_b_s"] * 1e12)
        signal = [1 - darks.rate(channel) / counts.rate(channel) for channel in (DET_A, DET_B)]
        coincidences = correlation.counts(DET_A, DET_B)
        fit = cw_g2_zero(lag_edges_ps, coincidences, values["detector_jitter_s"], *signal)
        found = replace(fit["g2_zero"], quantity="g2_0")
        curves = {"lag_edges_ps": lag_edges_ps, "counts": coincidences}
        return Analysis([found, fit["t_c"]], _verdict(found), [], curves)

    def truth(self, twin: dict[str, Any]) -> dict[str, float]:
        lit = [t for t in twin["acquisitions"].values() if t["mean_excitons"] > 0 or t["pump_per_s"] > 0]
        if not lit:
            return {}
        dot = {key.removeprefix("dot."): v for key, v in twin["parameters"].items() if key.startswith("dot.")}
        yields = DotYields(dot["eta_x"], dot["eta_bx"], dot["eta_t"], dot["eta_cbx"])
        if self.mode == "cw":
            g2 = dot_physics.cw_g2_zero(lit[0]["pump_per_s"], dot["tau_x_s"], dot["tau_bx_s"], yields)
        else:
            g2 = dot_physics.pulsed_g2_zero(lit[0]["mean_excitons"], lit[0]["p_t_stationary"], yields)
        return {"g2_0": g2}

    def plot(self, data: RunData, analysis: Analysis, figure: Figure) -> None:
        axes = figure.subplots()
        curves = analysis.curves
        if self.mode == "cw":
            axes.stairs(curves["counts"], curves["lag_edges_ps"] / 1e3, baseline=None)
            axes.set_xlabel("lag of detector B behind detector A (ns)")
            axes.set_ylabel(f"coincidences per {CW_BIN_PS / 1e3:g} ns")
            axes.set_ylim(bottom=0)
        else:
            errors = np.sqrt(curves["counts"])
            axes.bar(
                curves["lags"], curves["counts"], width=0.7, yerr=errors, capsize=2, label="coincidences"
            )
            axes.axhline(curves["background"], color="k", ls="--", lw=1, label="of which with a dark count")
            axes.set_xlabel("number of pulses between the photons, detector B behind detector A")
            axes.set_ylabel("coincidences")
            axes.set_ylim(top=1.2 * max(curves["counts"].max(), 1))
            axes.legend(loc="upper right", ncols=2)
        axes.set_title(f"photon correlation: {analysis.verdict}")


def _background(darks: Counts, channel: int) -> Background:
    seconds = darks.live_time_ps * 1e-12
    return Background(darks.rate(channel), np.sqrt(max(darks.counts[channel], 1)) / seconds)


def _verdict(g2: Estimate) -> str:
    text = f"g²(0) = {g2.value:.4f} +{g2.error_high:.4f} -{g2.error_low:.4f}"
    return f"{text}: a single emitter" if g2.value + 2 * g2.error_high < 0.5 else text
