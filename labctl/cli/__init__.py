"""The command line. Every command imports what it needs when it is called, so that help is instant."""

from __future__ import annotations

import os
import sys
import warnings


def main() -> None:
    """Entry point: errors that are the user's to mend end in one line and exit code 2."""
    from labctl.cli.app import app
    from labctl.errors import LabctlError

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except LabctlError as error:
        if os.environ.get("LABCTL_DEBUG"):
            raise
        _leave(str(error), 2)
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the command line parser
            _leave(f"{error.format_message()} (labctl --help shows how)", 2)
        if os.environ.get("LABCTL_DEBUG"):
            raise
        _leave(f"internal error: {type(error).__name__}: {error} (LABCTL_DEBUG=1 shows where)", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(message: str, code: int) -> None:
    sys.stderr.write(f"labctl: {' '.join(message.split())}\n")
    sys.exit(code)
