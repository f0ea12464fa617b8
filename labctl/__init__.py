"""labctl: control laboratory instruments and run quantum-optics experiments.

The package itself imports nothing heavy; take what you need from its rooms
(`labctl.bench`, `labctl.runs`, `labctl.timetags`, `labctl.analysis`, `labctl.store`).
"""

__version__ = "0.1.0"
