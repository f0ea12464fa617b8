"""One run: the experiment's declaration, the engine that carries it out, points, stops, progress."""

from labctl.runs.experiment import Analysis, Experiment
from labctl.runs.run import Acquisition, Point, Run, RunStopped

__all__ = ["Acquisition", "Analysis", "Experiment", "Point", "Run", "RunStopped"]
