"""The recovery suite: after each way to run out of memory, who gives how much of it back without a restart.

`python -m benchmarks.recovery`; the scenarios lie in `scenarios/`, one file each, and results in `results/`. A method
whose package is not installed is skipped, and that is said. ipyexperiments asks for the deprecated distribution
`pynvml`, at which torch warns; it works without: `pip install --no-deps ipyexperiments`.
"""
