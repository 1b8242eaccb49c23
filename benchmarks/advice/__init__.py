"""The advice suite: notebooks that run out of memory; does the failed cell run after a click of the first fix?

`python -m benchmarks.advice`; the notebooks lie in `notebooks/`, one file each, and results in `results/`.
"""
