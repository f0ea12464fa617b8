"""Visible-MIR delay scan of one colloidal dot, read out through its persistent charge.

A mid-infrared pulse ionises the dot only if an exciton is alive when it arrives. The dot then stays
grey for about a millisecond, so all photons until the next MIR pulse carry the answer to the question
"was the exciton alive at this delay?". Scanning the delay over the exciton's life gives its lifetime
tau_X and the ionisation probability p_i.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field

from labctl.analysis.delay_scan import (
    DelayScanFit,
    TelegraphNuisance,
    fit_delay_scan_counts,
    fit_delay_scan_periods,
    kicked_count_moments,
)
from labctl.analysis.dot_physics import exciton_alive
from labctl.analysis.telegraph import TelegraphRates
from labctl.instruments.capabilities import Delay, Excitation, MirField, PulsedSource, Shutter, TimeTagger
from labctl.quantities import Hertz, Number, Seconds, VoltsPerMetre
from labctl.runs import Analysis, Experiment, Run
from labctl.runs.experiment import DefaultPlot
from labctl.runs.replay import counts_per_period
from labctl.store import RunData
from labctl.sweeps import Axis, AxisOf, parse_axis

DET_A, DET_B, MIR_SYNC = 1, 2, 4
DelayAxis = Annotated[Axis, AxisOf("s", -50e-9, 400e-9)]
SETTLE_S = 0.05
"""After a change of delay: some fifty MIR periods, in which the dot forgets the delay before."""


class DelayScan(Experiment):
    """Visible-MIR pulse-delay scan: exciton lifetime and ionisation probability of one dot."""

    name: ClassVar[str] = "delay_scan"
    roles: ClassVar[dict[str, type]] = {
        "tagger": TimeTagger,
        "diode": PulsedSource,
        "excitation": Excitation,
        "delay": Delay,
        "mir_field": MirField,
        "mir_gate": Shutter,
    }
    records: ClassVar[dict[str, str]] = {"rate": "1/s", "rate_error": "1/s", "live_time": "s"}
    default_plot: ClassVar[DefaultPlot | None] = DefaultPlot("delays", "delay", "rate", "rate_error")

    delays: DelayAxis = Field(
        default_factory=lambda: parse_axis("points(0.3 ns) + log(1 ns, 390 ns, 19)", "s"),
        description="delay of the MIR pulse behind the visible pulse",
    )
    dwell: Seconds = Field(30.0, ge=0.1, le=3600, description="live time per point")
    field: VoltsPerMetre = Field(10e8, ge=0, le=12e8, description="peak MIR field at the dot, in vacuum")
    mean_excitons: Number = Field(0.3, gt=0, le=1, description="mean number of excitons per visible pulse")
    rate: Hertz = Field(2.5e6, ge=0.5e6, le=2.5e6, description="visible pulses per second within a burst")
    reference_every: int = Field(
        10, ge=0, le=1000, description="a reference point every so many points; 0: none"
    )
    reference: Seconds = Field(200e-9, ge=1e-9, le=400e-9, description="delay of the reference points")

    def duration_s(self) -> float:
        references = -(-len(self.delays) // self.reference_every) + 1 if self.reference_every else 0
        return (len(self.delays) + references) * self.dwell

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"dwell": max(0.1, self.dwell * factor)})

    def run(self, run: Run) -> None:
        bench = run.bench
        bench.diode.synchronised(True)
        bench.diode.rate(self.rate)
        bench.excitation.mean_excitons(self.mean_excitons)
        bench.mir_field.field(self.field)
        with run.emission(bench.diode, bench.mir_gate):
            for point in run.sweep(
                "delays",
                delay=self.delays,
                shuffle=True,
                reference_every=self.reference_every,
                reference=self.reference,
            ):
                bench.delay.delay(point.delay)
                run.wait(SETTLE_S)
                tags = run.acquire(bench.tagger, self.dwell, channels=[DET_A, DET_B, MIR_SYNC])
                point.record(
                    rate=tags.rate(DET_A, DET_B),
                    rate_error=tags.rate_error(DET_A, DET_B),
                    live_time=tags.live_time_s,
                )

    def analyse(self, data: RunData) -> Analysis:
        values = data.header["bench_values"]
        kick_period_s = 1 / values["mir_rate_hz"]
        rows = data.rows("delays")
        delay_of = dict(zip(rows["index"].tolist(), rows["delay"].tolist(), strict=True))
        taken = [a for a in data.acquisitions if a.sweep == "delays" and a.index in delay_of]
        delays_s = np.array([delay_of[a.index] for a in taken])
        middles_s = np.array([(a.begin_ps + a.end_ps) * 0.5e-12 for a in taken])
        periods, synced = zip(
            *(counts_per_period(data, a, [DET_A, DET_B], MIR_SYNC, kick_period_s) for a in taken), strict=True
        )
        counts = np.array([c.sum() for c in periods], dtype=float)
        live_s = np.array([c.size * kick_period_s for c in periods])
        setup = (self.mean_excitons, 1 / self.rate, kick_period_s, values["delay_jitter_s"])
        by_period = fit_delay_scan_periods(delays_s, periods, *setup)
        assert by_period.nuisance is not None
        by_counts = fit_delay_scan_counts(
            delays_s, counts, live_s, by_period.nuisance, *setup, times_s=middles_s
        )
        notes = [*by_counts.notes, *(f"by period: {note}" for note in by_period.notes)]
        if not all(synced):
            missing = len(synced) - sum(synced)
            notes.insert(
                0, f"no MIR pulses were seen (channel {MIR_SYNC}) at {missing} of {len(synced)} points"
            )
        estimates, signed_roots = [], {}
        # p_i by period is left out: the return rate k_d, which these data hardly show, pulls it along
        wanted = (
            (by_counts, "tau_x", "tau_X"),
            (by_counts, "p_i", "p_i"),
            (by_period, "tau_x", "tau_X_by_period"),
        )
        for fit, name, quantity in wanted:
            if name in fit.estimates:
                estimates.append(replace(fit[name], quantity=quantity))
                signed_roots[quantity] = partial(fit.signed_root, name)
        curves = self._curves(delays_s, counts, live_s, by_counts, by_period.nuisance, setup)
        return Analysis(estimates, by_counts.verdict, notes, curves, signed_roots)

    def _curves(
        self,
        delays_s: NDArray[np.float64],
        counts: NDArray[np.float64],
        live_s: NDArray[np.float64],
        fit: DelayScanFit,
        dot: TelegraphNuisance,
        setup: tuple[float, float, float, float],
    ) -> dict[str, NDArray[np.float64]]:
        """Points with their full errors, and the fitted curve, as rates in 1/s."""
        mean_excitons, pulse_period_s, kick_period_s, jitter_s = setup
        v = fit.maximum.values
        rates = TelegraphRates(v["baseline"], dot.rate_ratio * v["baseline"], dot.k_c, dot.k_d)

        def model(delay_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            alive = exciton_alive(delay_s, mean_excitons, v["tau_x"], pulse_period_s, jitter_s)
            return kicked_count_moments(rates, kick_period_s, dot.p_d, v["p_i"] * alive)

        mean, variance = model(delays_s)
        sigma = np.sqrt(variance / kick_period_s / live_s)
        fine_s = np.geomspace(max(delays_s.min(), 1e-10), delays_s.max(), 300)
        return {
            "delay_s": delays_s,
            "rate": counts / live_s,
            "rate_sigma": sigma,
            "residual": (counts / live_s - mean / kick_period_s) / sigma,
            "model_delay_s": fine_s,
            "model_rate": model(fine_s)[0] / kick_period_s,
        }

    def truth(self, twin: dict[str, Any]) -> dict[str, float]:
        tau = twin["parameters"]["dot.tau_x_s"]
        p_i = next(iter(twin["acquisitions"].values()))["ionisation_probability"]
        return {"tau_X": tau, "p_i": p_i, "tau_X_by_period": tau}

    def plot(self, data: RunData, analysis: Analysis, figure: Figure) -> None:
        curves = analysis.curves
        rates, pulls = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        rates.errorbar(
            curves["delay_s"] * 1e9, curves["rate"] / 1e3, curves["rate_sigma"] / 1e3,
            fmt="o", ms=4, lw=1, label="count rate, shot and telegraph noise",
        )  # fmt: skip
        rates.plot(curves["model_delay_s"] * 1e9, curves["model_rate"] / 1e3, "-", label="fit")
        pulls.axhline(0, color="0.6", lw=1)
        pulls.plot(curves["delay_s"] * 1e9, curves["residual"], "o", ms=4)
        rates.set_xscale("log")
        rates.set_ylabel("count rate (kcps)")
        rates.set_title(_title(analysis))
        rates.legend(loc="lower right")
        pulls.set_ylabel("residual / σ")
        pulls.set_xlabel("delay of the MIR pulse behind the visible pulse (ns)")


def _title(analysis: Analysis) -> str:
    by_name = {estimate.quantity: estimate for estimate in analysis.estimates}
    if "tau_X" not in by_name:
        return f"delay scan: {analysis.verdict}"
    tau, p_i = by_name["tau_X"], by_name["p_i"]
    return (
        f"delay scan: τ$_X$ = {tau.value * 1e9:.1f} ± {tau.error * 1e9:.1f} ns, "
        f"p$_i$ = {100 * p_i.value:.2f} ± {100 * p_i.error:.2f} %"
    )
