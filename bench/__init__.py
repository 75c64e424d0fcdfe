"""Benchmarks against peers and against the limit: `python -m bench.NAME [--quick] [--json PATH]`."""
