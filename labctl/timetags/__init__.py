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
from labctl.timetags.peaks import PeakAreas, Zero, find_zero, leakage, peak_areas
from labctl.timetags.pipeline import Pipeline
from labctl.timetags.provenance import FoundPairs, Provenance
from labctl.timetags.pulsed import DecayHistogram, PulsedCorrelation, PulsePairs
from labctl.timetags.raster import Raster
from labctl.timetags.reference import correlate_reference
from labctl.timetags.stages import Delays, Gate, Heralded, Stage, Windows
from labctl.timetags.start_stop import StartStop
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
    "FoundPairs",
    "Gap",
    "Gate",
    "Heralded",
    "IntensityTrace",
    "LogCorrelation",
    "MultiTau",
    "PeakAreas",
    "Pipeline",
    "Provenance",
    "PulsePairs",
    "PulsedCorrelation",
    "Raster",
    "Stage",
    "StartStop",
    "SyncedTrace",
    "T3Records",
    "TagBlock",
    "TagFile",
    "TagFileError",
    "Windows",
    "Zero",
    "audit",
    "correlate",
    "correlate_reference",
    "find_zero",
    "leakage",
    "log_edges",
    "peak_areas",
    "read_tags",
]
