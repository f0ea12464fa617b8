"""The dot against closed formulas. Seeds are fixed; limits are 4 sigma (false alarm 6e-5) if not given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import expm

from labctl.twin import sample
from labctl.twin.config import WorldConfig
from labctl.twin.optics import Drive
from labctl.twin.world import PulseTrain
from tests.twin.world_kit import FAST, MS, S, arrivals_ps, burst, charged_fraction, config, emitter

P2 = 1 - math.exp(-0.1) * 1.1
SILENT = {"efficiency": 0.0, "efficiency_cw": 0.0}
EVERY_PHOTON = {"efficiency": 1.0, "efficiency_cw": 1.0, "jitter_fwhm_s": 0.0}
STILL = {"charging_per_biexciton": 0.0, "neutralisation_rate_per_s": 0.0}


def kicks(k_c: float, k_d: float, period_ps: int, **dot: float) -> WorldConfig:
    """A dot with the wanted rates under 0.1 excitons per pulse at 2.5 MHz."""
    return config(
        dot={"charging_per_biexciton": k_c / 2.5e6 / P2, "neutralisation_rate_per_s": k_d, **dot},
        mir={"period_ps": period_ps},
        detection=SILENT,
    )


def field_for(p: float) -> float:
    return 15.0 / math.log(20.0 / -math.log1p(-p))


# (k_c, k_d, T_m, p_d) -> mean P_T from the closed formula; durations give sigma <= 0.35 %, checked at 1 %
@pytest.mark.parametrize(
    ("k_c", "k_d", "period_ms", "p", "expected", "duration_s"),
    [
        (50.0, 20.0, 10, 0.5, 0.372605, 3e3),
        (100.0, 100.0, 1, 0.5, 0.116368, 2e3),
        (10.0, 10.0, 10, 0.8, 0.066473, 2e4),
        (4.0, 10.0, 1000, 0.63055, None, 4e4),
        (4.0, 10.0, 1, 0.0, 0.285714, 4e4),
    ],
)
def test_kicks(
    k_c: float, k_d: float, period_ms: int, p: float, expected: float | None, duration_s: float
) -> None:
    cfg = kicks(k_c, k_d, period_ms * MS, ionisation_field_mv_cm=1e6)
    formula = sample.mean_charged(k_c, k_d, p, 0.0, period_ms * 1e-3)
    if expected is not None:
        assert formula == pytest.approx(expected, abs=6e-7)
    light = Drive(FAST, 0.1, 0.0, field_for(p) if p else 0.0)
    assert charged_fraction(cfg, light, duration_s, seed=2) == pytest.approx(formula, rel=0.01)


def test_kick_probabilities() -> None:
    dot = WorldConfig().dot
    discharge = [sample.discharge_probability(dot, f) for f in (0, 2, 3, 4, 5, 6, 8, 10)]
    assert discharge == pytest.approx([0, 0.0110, 0.1261, 0.3752, 0.6306, 0.8064, 0.9534, 0.9885], abs=6e-5)
    ionise = [sample.ionisation_probability(dot, f) for f in (5, 6, 8, 10)]
    assert ionise == pytest.approx([1.23e-4, 9.1e-4, 0.0110, 0.0484], rel=6e-3)


@pytest.mark.parametrize(("field", "expected"), [(2, 0.15961), (3, 0.02693), (5, 0.00428), (10, 0.00204)])
def test_reference_occupations(field: float, expected: float) -> None:
    p = sample.discharge_probability(WorldConfig().dot, field)
    assert sample.mean_charged(4.0, 10.0, p, 0.0, 1e-3) == pytest.approx(expected, abs=6e-6)


def test_blinking_suppressed_by_the_mir() -> None:
    # about 6000 charging events: sigma 2 %
    light = Drive(FAST, 0.1, 0.0, 5.0)
    cfg = WorldConfig().model_copy(update={"detection": kicks(4, 10, MS).detection})
    assert charged_fraction(cfg, light, 1.5e3) == pytest.approx(
        sample.derive(light, cfg).p_t_stationary, rel=0.08
    )


# sigma of each point about 0.5 %; the printed values leave out the biexciton step (below 1 % of the step)
@pytest.mark.parametrize(("delay_ps", "charged"), [(300, 0.027716), (30_000, 0.020330), (200_000, 0.015941)])
def test_delay_scan(delay_ps: int, charged: float) -> None:
    cfg = config(detection=SILENT)
    light = Drive(burst(delay_ps), 0.3, 0.0, 10.0)
    derived = sample.derive(light, cfg)
    assert derived.delay_ps == delay_ps
    assert derived.p_t_stationary == pytest.approx(charged, rel=0.004)
    assert charged_fraction(cfg, light, 1.5e3, seed=3) == pytest.approx(derived.p_t_stationary, rel=0.02)


def test_pulse_yields_and_pairs() -> None:
    cfg = config(dot=STILL, detection=EVERY_PHOTON)
    y_x, y_t = sample.pulse_yields(cfg.dot, 0.1)
    assert (y_x, y_t) == pytest.approx((0.09084, 0.01817), rel=1e-3)
    pulses = 30 * 2_500_000
    for charged, mean, eta_1, eta_2 in ((False, y_x, 0.95, 0.093), (True, y_t, 0.19, 0.02)):
        cfg = config(dot={**STILL, "initially_charged": charged}, detection=EVERY_PHOTON)
        times = arrivals_ps(cfg, Drive(FAST, 0.1), 30.0)
        assert abs(times.size - pulses * mean) < 4 * math.sqrt(pulses * mean)
        numbers = (times - 31_400 + 1_000) // 400_000
        pairs = np.count_nonzero(np.diff(numbers) == 0)
        # exciton tails beyond the next pulse (1.6e-6 of the photons) make a few false pairs
        expected = pulses * eta_1 * eta_2 * P2
        assert abs(pairs - expected) < 4 * math.sqrt(expected) + 1
        if not charged:
            assert 2 * pairs / pulses / mean**2 == pytest.approx(0.1003, rel=0.02)


def test_cascade_times() -> None:
    cfg = config(dot=STILL, detection=EVERY_PHOTON, visible={"pulse_fwhm_s": 0.0, "pulse_jitter_s": 0.0})
    times = arrivals_ps(cfg, Drive(FAST, 1.0), 1.0)
    delays = (times - 31_400) % 400_000
    p1, p2 = 1 - math.exp(-1), 1 - 2 * math.exp(-1)
    bright, dim = 0.95 * p1, 0.093 * p2
    mean_ps = (bright * 30_000 + (0.95 * p2 + dim) * 734) / (bright + dim)
    assert abs(delays.mean() - mean_ps) < 4 * delays.std() / math.sqrt(delays.size)


def test_trion_that_is_discharged_goes_on_as_an_exciton() -> None:
    """Mean yield of the one visible pulse before each MIR pulse, both kicks strong, no charging otherwise."""
    delay_ps, mean = 2_000, 8.0
    cfg = config(
        dot={
            **STILL,
            "ionisation_field_mv_cm": 20.0,
            "tau_bx_s": 1e-15,
            "eta_bx": 0.0,
            "tau_cbx_s": 1e-15,
            "eta_cbx": 0.0,
        },
        detection=EVERY_PHOTON,
    )
    offset = 5_137_000 - 31_400 - delay_ps
    light = Drive(PulseTrain(400_000, 1, offset, "mir_trigger"), mean, 0.0, 5.0)
    p_d, p_i = sample.discharge_probability(cfg.dot, 5.0), sample.ionisation_probability(cfg.dot, 5.0)
    full = 1 - math.exp(-mean)
    c = p_i * full * math.exp(-delay_ps / 30_000)
    before = c / (c + p_d)
    neutral = 0.95 * (1 - p_i * math.exp(-delay_ps / 30_000))
    charged = 0.19 + math.exp(-delay_ps / 3_000) * p_d * (0.95 - 0.19)
    expected = full * ((1 - before) * neutral + before * charged)
    seconds = 300
    assert arrivals_ps(cfg, light, seconds).size / (1000 * seconds) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("charged", "kcps"), [(False, 50.0), (True, 10.2)])
def test_cw_rates(charged: bool, kcps: float) -> None:
    cfg = config(dot={**STILL, "initially_charged": charged})
    light = Drive(pump_per_s=6.3e5)
    derived = sample.derive(light, cfg)
    expected = 0.085 * (derived.emission_rate_t_per_s if charged else derived.emission_rate_x_per_s)
    assert expected == pytest.approx(1e3 * kcps, rel=0.006)
    counts = arrivals_ps(cfg, light, 6.0).size
    assert abs(counts - 6 * expected) < 4 * math.sqrt(6 * expected)


def test_cw_blinking() -> None:
    # a pump a hundred times weaker with a charging probability as much larger: k_c stays near 4
    cfg = config(dot={"charging_per_biexciton": 1.0}, detection=SILENT)
    light = Drive(pump_per_s=2e4)
    derived = sample.derive(light, cfg)
    assert sample.derive(Drive(pump_per_s=6.3e5), WorldConfig()).charging_rate_per_s == pytest.approx(
        4.0, rel=2e-3
    )
    # K = 22 /s over 400 s: sigma 0.0054
    assert charged_fraction(cfg, light, 400.0) == pytest.approx(derived.p_t_stationary, abs=0.022)


def test_cw_antibunching() -> None:
    cfg = config(dot=STILL, detection=EVERY_PHOTON)
    dot, pump, seconds = cfg.dot, 6.3e5, 6
    times = arrivals_ps(cfg, Drive(pump_per_s=pump), seconds)
    window_ps = 4_000
    gaps = np.diff(times)
    pairs = np.count_nonzero(gaps < window_ps) + np.count_nonzero(times[2:] - times[:-2] < window_ps)
    x, b = 1 / dot.tau_x_s, 1 / dot.tau_bx_s
    rates = np.array([[-pump, x, 0], [pump, -pump - x, b], [0, pump, -b]])
    empty = 1 / (1 + pump / x + pump / x * pump / b)
    state = empty * np.array([1, pump / x, pump / x * pump / b])
    light = np.array([0, dot.eta_x * x, dot.eta_bx * b])
    after = np.array([light[1] * state[1], light[2] * state[2], 0.0])
    grid = np.linspace(0, window_ps * 1e-12, 41)
    joint = np.array([light @ expm(rates * t) @ after for t in grid])
    assert joint[0] / (light @ state) ** 2 == pytest.approx(0.0994, abs=2e-4)
    expected = seconds * np.trapezoid(joint, grid)
    assert abs(pairs - expected) < 4 * math.sqrt(expected)


def test_bunching_by_blinking() -> None:
    """Covariance of neighbouring 4 ms bins against the realised occupation (sigma about 0.006)."""
    cfg = WorldConfig()
    dot = emitter(cfg, Drive(FAST, 0.1))
    times = dot.advance(200 * S) >> 1
    counts = np.bincount(np.asarray(times // (4 * MS)))[:-1]
    p_t = dot.charged_time_ps() / (200 * S)
    y_x, y_t = sample.pulse_yields(cfg.dot, 0.1)
    mean = (1 - p_t) * y_x + p_t * y_t
    beta = p_t * (1 - p_t) * (y_x - y_t) ** 2 / mean**2
    k = sample.derive(Drive(FAST, 0.1), cfg).charging_rate_per_s + 10.0
    binned = beta * (2 * (math.cosh(k * 4e-3) - 1)) / (k * 4e-3) ** 2 * math.exp(-k * 4e-3)
    covariance = np.mean(counts[1:] * counts[:-1]) / np.mean(counts) ** 2 - 1
    assert covariance == pytest.approx(binned, abs=0.024)


def test_kick_with_exciton_under_cw() -> None:
    """Without any other change of charge, P_T follows from p_d and c = p_i P(exciton)."""
    cfg = config(dot={**STILL, "ionisation_field_mv_cm": 10.0}, detection=SILENT, mir={"period_ps": MS // 10})
    light = Drive(pump_per_s=3e6, mir_field_mv_cm=3.5)
    c = sample.ionisation_probability(cfg.dot, 3.5) * sample.exciton_at_mir(light, cfg)
    p_d = sample.discharge_probability(cfg.dot, 3.5)
    # 20 000 kicks: sigma about 0.004
    assert charged_fraction(cfg, light, 2.0) == pytest.approx(c / (c + p_d), abs=0.016)
