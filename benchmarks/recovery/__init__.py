"""The recovery suite: after each way to run out of memory, who gives how much of it back without a restart.

`python -m benchmarks.recovery`; the scenarios lie in `scenarios/`, one file each.
"""
