"""Tag streams to histograms: blocks of tags, accumulators over them, and the files they come from.

Pure functions and accumulators on arrays; nothing here knows an instrument, a run or a store.
"""

from labctl.timetags.audit import audit
from labctl.timetags.block import Gap, TagBlock
from labctl.timetags.coincidences import Coincidences
from labctl.timetags.correlation import Correlation, CorrelationSnapshot, correlate
from labctl.timetags.counting import Counts, IntensityTrace, SyncedTrace
from labctl.timetags.g2 import G2
from labctl.timetags.headers import TagFileError
from labctl.timetags.log_correlation import LogCorrelation, log_edges
from labctl.timetags.multi_tau import MultiTau
from labctl.timetags.pipeline import Pipeline
from labctl.timetags.pulsed import DecayHistogram, PulsedCorrelation, PulsePairs
from labctl.timetags.raster import Raster
from labctl.timetags.reference import correlate_reference
from labctl.timetags.stages import Delays, Gate, Heralded, Stage, Windows
from labctl.timetags.stream import Accumulator
from labctl.timetags.tagfile import T3Records, TagFile, read_tags
from labctl.timetags.virtual import Coincident, Either

__all__ = [
    "G2",
    "Accumulator",
    "Coincidences",
    "Coincident",
    "Correlation",
    "CorrelationSnapshot",
    "Counts",
    "DecayHistogram",
    "Delays",
    "Either",
    "Gap",
    "Gate",
    "Heralded",
    "IntensityTrace",
    "LogCorrelation",
    "MultiTau",
    "Pipeline",
    "PulsePairs",
    "PulsedCorrelation",
    "Raster",
    "Stage",
    "SyncedTrace",
    "T3Records",
    "TagBlock",
    "TagFile",
    "TagFileError",
    "Windows",
    "audit",
    "correlate",
    "correlate_reference",
    "log_edges",
    "read_tags",
]
