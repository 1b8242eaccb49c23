"""A run as a table for people and as a record for JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from benchmarks.recovery.methods import Method
from benchmarks.recovery.scenario import ROOM, Scenario
from benchmarks.recovery.suite import Run
from benchmarks.recovery.trial import NOISE, Trial

_COLUMN = 16
_LEGEND = "Bytes back, of those that can be freed.  x: the smaller twin failed.  !: something of the user's was lost."


def heading(run: Run) -> str:
    """The lines above the rows."""
    width = _width(run.scenarios)
    names = "".join(f"{method.name:>{_COLUMN}}" for method in run.methods)
    lines = [f"{run.facts['device']}, IPython {run.facts['libraries'].get('ipython')}: {_LEGEND}"]
    lines += [f"skipped: {name}: {reason}" for name, reason in run.skipped.items()]
    return "\n".join([*lines, "", " " * width + names])


def row(run: Run, scenario: Scenario) -> str:
    """One scenario's row."""
    name = scenario.name + (" (deep)" if scenario.deep else "")
    cells = [_cell(run.trials.get((scenario.name, method.name))) for method in run.methods]
    return f"{name:<{_width(run.scenarios)}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def summary(run: Run) -> str:
    """The lines below the rows, and what went wrong."""
    width, sums = _width(run.scenarios), {method.name: summarize(run, method) for method in run.methods}
    total = len(run.scenarios)
    rows = {
        f"all back, of {total}": [f"{one['full']}" for one in sums.values()],
        "bytes back": [_percent(one["share"]) for one in sums.values()],
        f"twin ran, of {total}": [f"{one['twins']}" for one in sums.values()],
        "objects lost": [f"{one['lost']}" for one in sums.values()],
        "median seconds": [f"{one['seconds']:.2f}" for one in sums.values()],
    }
    lines = [f"{name:<{width}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells) for name, cells in rows.items()]
    if run.restart is not None:
        click, restart = run.restart.click, run.restart.restart
        lines += [
            "",
            f"until the cell has run again, median of {run.restart.repeats}: {click:.1f} s with release(), "
            f"{restart:.1f} s with a new kernel, the imports and the set-up",
        ]
    lines += [f"\nfailed: {scenario}, {method}: {text}" for (scenario, method), text in run.failed.items()]
    return "\n".join(["", *lines])


def summarize(run: Run, method: Method) -> dict[str, Any]:
    """One method over all scenarios: full, twins and lost are counts, share is of the bytes, seconds the median."""
    trials = [one for (_, name), one in run.trials.items() if name == method.name]
    freeable = sum(one.freeable for one in trials)
    return {
        "full": sum(one.full for one in trials),
        "share": round(sum(one.share * one.freeable for one in trials) / freeable, 4) if freeable else 0.0,
        "twins": sum(one.twin for one in trials),
        "lost": sum(len(one.lost) for one in trials),
        "seconds": round(statistics.median(one.seconds for one in trials), 3) if trials else 0.0,
    }


def to_record(run: Run) -> dict[str, Any]:
    """The whole run, ready for JSON: sizes in bytes, times in seconds, shares from 0 to 1."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pair": run.pair,
        **run.facts,
        "room": ROOM,
        "noise": NOISE,
        "skipped": run.skipped,
        "summary": {method.name: {"title": method.title, **summarize(run, method)} for method in run.methods},
        "restart": None
        if run.restart is None
        else {
            "click": round(run.restart.click, 3),
            "restart": round(run.restart.restart, 3),
            "repeats": run.restart.repeats,
        },
        "scenarios": [_scenario(run, one) for one in run.scenarios],
        "failed": [{"scenario": one, "method": method} for one, method in run.failed],
    }


def _scenario(run: Run, scenario: Scenario) -> dict[str, Any]:
    results = {method.name: run.trials.get((scenario.name, method.name)) for method in run.methods}
    return {
        "name": scenario.name,
        "title": scenario.title,
        "deep": scenario.deep,
        "freeable": scenario.freeable,
        "results": {name: _result(one) for name, one in results.items() if one is not None},
    }


def _result(one: Trial) -> dict[str, Any]:
    return {
        "share": round(one.share, 4),
        "left": one.left,
        "twin": one.twin,
        "lost": list(one.lost),
        "seconds": round(one.seconds, 3),
    }


def _cell(one: Trial | None) -> str:
    if one is None:
        return "failed"
    return _percent(one.share) + ("" if one.twin else " x") + (" !" if one.lost else "")


def _percent(share: float) -> str:
    """Rounded down: only all of it is 100 %."""
    return f"{int(100 * share)} %"


def _width(scenarios: Iterable[Scenario]) -> int:
    return max([len(one.name) for one in scenarios], default=0) + len(" (deep)") + 1
