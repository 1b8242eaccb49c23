"""How often fixes helped in this project's own suites, as it is packaged; and how sure a rate is."""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import dataclass
from importlib import resources

_SCORE = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """One run of a suite.

    Attributes:
        suite: "advice", whose failed cells ran after a fix was clicked, or "recovery", whose cells ran made smaller.
        memory: "host", or "played" for a CUDA device that is played in host memory.
        version: Of nb_oomhelper, by which it was run.
        date: Its day, as ISO writes it.
        rates: By fix, (n, m): n of m cells ran.
    """

    suite: str
    memory: str
    version: str
    date: str
    rates: dict[str, tuple[int, int]]


@functools.cache
def suite_runs() -> tuple[SuiteRun, ...]:
    """Give the runs that are packaged."""
    text = resources.files("nb_oomhelper.remedies").joinpath("suite_rates.toml").read_text("utf-8")
    return tuple(
        SuiteRun(**{**run, "rates": {fix: (good, total) for fix, (good, total) in run["rates"].items()}})
        for run in tomllib.loads(text)["run"]
    )


def advice_rate(fix: str) -> tuple[int, int, str, str] | None:
    """Add up how often the failed cell ran after a click on a fix, in the advice suite.

    Args:
        fix: Its id.

    Returns:
        n, m, and version and day of the newest of these runs; None where it was never clicked.
    """
    runs = [run for run in suite_runs() if run.suite == "advice" and fix in run.rates]
    if not runs:
        return None
    newest = max(runs, key=lambda run: run.date)
    good, total = (sum(run.rates[fix][at] for run in runs) for at in (0, 1))
    return good, total, newest.version, newest.date


def wilson(good: int, total: int) -> tuple[float, float]:
    """Give Wilson's interval of a rate, at 95 % confidence.

    Args:
        good, total: n of m.

    Returns:
        Lower and upper end, from 0 to 1; (0, 1) of nothing.
    """
    if total == 0:
        return 0.0, 1.0
    rate, square = good / total, _SCORE**2
    middle = rate + square / (2 * total)
    spread = _SCORE * math.sqrt(rate * (1 - rate) / total + square / (4 * total**2))
    ends = ((middle + sign * spread) / (1 + square / total) for sign in (-1, 1))
    low, high = (min(1.0, max(0.0, end)) for end in ends)
    return low, high
