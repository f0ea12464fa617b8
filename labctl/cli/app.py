"""The commands of `labctl`: importing this registers them all; what they do is in the modules they call."""

from labctl.cli import commands_taking  # isort: skip  -- in the order of the help
from labctl.cli import commands_live, commands_stored, commands_benches  # isort: skip
from labctl.cli.options import app

__all__ = ["app", "commands_benches", "commands_live", "commands_stored", "commands_taking"]
