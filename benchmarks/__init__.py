"""What labctl costs, beside its peers; `python -m benchmarks` prints it. See docs/benchmarks.md."""
