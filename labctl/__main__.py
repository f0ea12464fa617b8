"""`python -m labctl` is the same as `labctl`."""

from labctl.cli import main

main()
