"""Count-level simulators of the dot, written from event times and independent of the analysis."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit
def kicked_counts(rng, n, interval, rate_x, rate_t, k_c, k_d, p_d, c, kick_every):
    """Counts of n intervals; a kick at the start of every `kick_every`-th (0: never)."""
    charged = rng.random() < k_c / (k_c + k_d)
    remaining = rng.exponential(1.0 / (k_d if charged else k_c))
    counts = np.empty(n, np.int64)
    for i in range(n):
        if kick_every > 0 and i % kick_every == 0:
            if rng.random() < (p_d if charged else c):
                charged = not charged
                remaining = rng.exponential(1.0 / (k_d if charged else k_c))
        left, grey = interval, 0.0
        while remaining < left:
            left -= remaining
            if charged:
                grey += remaining
            charged = not charged
            remaining = rng.exponential(1.0 / (k_d if charged else k_c))
        remaining -= left
        if charged:
            grey += left
        counts[i] = rng.poisson(rate_x * (interval - grey) + rate_t * grey)
    return counts


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def summary(pulls: list[float]) -> tuple[float, float]:
    """Mean and standard deviation of pulls."""
    return float(np.mean(pulls)), float(np.std(pulls, ddof=1))
