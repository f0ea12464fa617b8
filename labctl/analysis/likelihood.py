"""Maximum likelihood with MINUIT, wrapped so that every fit here is bounded, checked and can be profiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from iminuit import Minuit

from labctl.analysis.errors import AnalysisError

Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Parameter:
    """Start value, typical step, limits, and whether it stays at its start value."""

    start: float
    step: float
    limits: Limits = (None, None)
    fixed: bool = False


@dataclass
class MaximumLikelihood:
    """The minimum of a negative log-likelihood; parameters are named and kept in the order of `names`."""

    names: tuple[str, ...]
    values: dict[str, float]
    covariance: np.ndarray
    nll: float
    objective: Callable[[np.ndarray], float] = field(repr=False)
    parameters: dict[str, Parameter] = field(repr=False)

    def error(self, name: str) -> float:
        """Parabolic standard error."""
        i = self.names.index(name)
        return float(np.sqrt(self.covariance[i, i]))

    def propagate(self, function: Callable[[Mapping[str, float]], float]) -> tuple[float, float]:
        """Value and standard error of a function of the parameters (delta method, full covariance)."""
        gradient = np.zeros(len(self.names))
        for i, name in enumerate(self.names):
            step = 1e-3 * np.sqrt(self.covariance[i, i])
            if step > 0.0:
                up, down = (
                    self.values | {name: self.values[name] + step},
                    self.values | {name: self.values[name] - step},
                )
                gradient[i] = (function(up) - function(down)) / (2.0 * step)
        return function(self.values), float(np.sqrt(gradient @ self.covariance @ gradient))

    def profile(self, name: str, value: float) -> float:
        """Smallest negative log-likelihood with one parameter held at `value`."""
        i = self.names.index(name)
        variance = self.covariance[i, i]
        slope = self.covariance[i] / variance if variance > 0.0 else np.zeros(len(self.names))
        pinned = {}
        for j, (n, p) in enumerate(self.parameters.items()):
            low, high = p.limits
            guess = self.values[n] if p.fixed else self.values[n] + slope[j] * (value - self.values[name])
            outside = (low is not None and guess <= low) or (high is not None and guess >= high)
            start = self.values[n] if outside else guess
            pinned[n] = Parameter(start, 0.3 * self.error(n) or p.step, p.limits, p.fixed)
        pinned[name] = Parameter(value, 1.0, (None, None), fixed=True)
        return _migrad(self.objective, pinned)[0]

    def signed_root(self, name: str, truth: float) -> float:
        """sign(estimate - truth) sqrt(2 (profile - minimum)): the pull of bounded quantities."""
        rise = max(self.profile(name, truth) - self.nll, 0.0)
        return float(np.copysign(np.sqrt(2.0 * rise), self.values[name] - truth))

    def interval(self, name: str, rise: float = 0.5) -> tuple[float | None, float | None]:
        """Ends where the profile lies `rise` above the minimum; None where it stays below up to the limit."""
        low, high = self.parameters[name].limits
        return self._crossing(name, -1.0, low, rise), self._crossing(name, 1.0, high, rise)

    def _crossing(self, name: str, side: float, limit: float | None, rise: float) -> float | None:
        """Secant search in the square root of the rise, which is a straight line for a parabola."""
        best, target = self.values[name], np.sqrt(rise)
        room = np.inf if limit is None else abs(limit - best)
        inside, outside = (0.0, 0.0), None
        distance = min(max(self.error(name), 1e-6 * abs(best), 1e-300) * np.sqrt(2.0 * rise), room)
        for _ in range(25):
            root = np.sqrt(max(self.profile(name, best + side * distance) - self.nll, 0.0))
            if abs(root / target - 1.0) < 0.01:
                return best + side * distance
            if root < target:
                inside = (distance, root)
                if distance >= room:
                    return None
            else:
                outside = (distance, root)
            if outside is None:
                distance = min(room, distance * min(2.0, 1.05 * target / max(root, 1e-3 * target)))
            else:
                share = (target - inside[1]) / max(outside[1] - inside[1], 1e-12)
                distance = inside[0] + min(max(share, 0.05), 0.95) * (outside[0] - inside[0])
        return best + side * distance if outside is not None else None


def maximise(
    negative_log_likelihood: Callable[[np.ndarray], float], parameters: Mapping[str, Parameter], what: str
) -> MaximumLikelihood:
    """Minimise and take the Hessian.

    `what` names the fit in the message of the AnalysisError raised when there is no finite minimum.
    """
    nll, minuit = _migrad(negative_log_likelihood, parameters)
    minuit.strategy = 1
    minuit.hesse()
    if not np.isfinite(nll) or minuit.covariance is None:
        raise AnalysisError(
            f"{what}: the likelihood has no usable maximum; check levels and units of the data"
        )
    values = dict(zip(parameters, map(float, minuit.values), strict=True))
    covariance = np.array(minuit.covariance)
    return MaximumLikelihood(
        tuple(parameters), values, covariance, nll, negative_log_likelihood, dict(parameters)
    )


def _migrad(
    objective: Callable[[np.ndarray], float], parameters: Mapping[str, Parameter]
) -> tuple[float, Minuit]:
    names = list(parameters)
    minuit = Minuit(objective, np.array([p.start for p in parameters.values()]), name=names)
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.print_level = 0
    for name, p in parameters.items():
        minuit.errors[name] = p.step
        minuit.limits[name] = p.limits
        minuit.fixed[name] = p.fixed
    if any(not p.fixed for p in parameters.values()):
        minuit.strategy = 0
        minuit.migrad(ncall=4000)
        if not minuit.valid:
            minuit.strategy = 1
            minuit.simplex(ncall=2000).migrad(ncall=4000)
    return float(objective(np.array(minuit.values))), minuit
