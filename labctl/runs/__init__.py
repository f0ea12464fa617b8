"""One run: the experiment's declaration, the engine that carries it out, points, stops, progress."""

from labctl.runs.acquiring import Acquisition
from labctl.runs.experiment import Analysis, Experiment
from labctl.runs.run import Point, Run
from labctl.runs.supervision import RunStopped

__all__ = ["Acquisition", "Analysis", "Experiment", "Point", "Run", "RunStopped"]
