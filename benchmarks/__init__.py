"""Measurements, run with `python -m benchmarks.run`; result files lie in `results/`."""
