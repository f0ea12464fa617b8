"""Tag streams to histograms: blocks of tags, accumulators over them, and the files they come from.

Pure functions and accumulators on arrays; nothing here knows an instrument, a run or a store.
"""

from labctl.timetags.audit import audit
from labctl.timetags.block import Gap, TagBlock
from labctl.timetags.correlation import Correlation, correlate
from labctl.timetags.counting import Counts, IntensityTrace, Pipeline, SyncedTrace
from labctl.timetags.g2 import G2
from labctl.timetags.headers import TagFileError
from labctl.timetags.pulsed import DecayHistogram, PulsedCorrelation, PulsePairs
from labctl.timetags.reference import correlate_reference
from labctl.timetags.stream import Accumulator
from labctl.timetags.tagfile import T3Records, TagFile, read_tags

__all__ = [
    "G2",
    "Accumulator",
    "Correlation",
    "Counts",
    "DecayHistogram",
    "Gap",
    "IntensityTrace",
    "Pipeline",
    "PulsePairs",
    "PulsedCorrelation",
    "SyncedTrace",
    "T3Records",
    "TagBlock",
    "TagFile",
    "TagFileError",
    "audit",
    "correlate",
    "correlate_reference",
    "read_tags",
]
