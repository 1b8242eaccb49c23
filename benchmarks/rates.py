"""`python -m benchmarks.rates`: write how often fixes helped in the kept runs of the suites into the package.

Counted are the fixes that were clicked in the newest kept run of each suite in each memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
FILE = ROOT.parent / "src" / "nb_oomhelper" / "remedies" / "suite_rates.toml"
_RELEASE = "release-failed-cell"
_HEAD = "# How often fixes helped in the suites: [good, of]. Made by `python -m benchmarks.rates`; not to be edited.\n"


def make() -> str:
    """Give the file's text, from the kept results."""
    return _HEAD + "".join(_table(*one) for one in [*_advice(), _recovery()])


def _advice() -> Iterator[tuple[str, str, dict[str, Any], dict[str, list[int]]]]:
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "advice" / "results").glob("*.json")):
        for run in json.loads(path.read_text("utf-8"))["runs"]:
            newest[run["memory"]] = max(run, newest.get(run["memory"], run), key=lambda one: str(one["date"]))
    for memory, run in sorted(newest.items()):
        rates: dict[str, list[int]] = {}
        for trial in (trial for row in run["notebooks"] for trial in row["ways"].values()):
            if trial["offered"] and trial.get("fix"):
                count = rates.setdefault(trial["fix"], [0, 0])
                count[0] += trial["ran"]
                count[1] += 1
        yield "advice", memory, run, rates


def _recovery() -> tuple[str, str, dict[str, Any], dict[str, list[int]]]:
    runs = [json.loads(path.read_text("utf-8")) for path in (ROOT / "recovery" / "results").glob("*-new.json")]
    run = max(runs, key=lambda one: str(one["date"]))
    found = [row["results"]["ours"]["twin"] for row in run["scenarios"] if "ours" in row["results"]]
    return "recovery", "host", run, {_RELEASE: [sum(found), len(found)]}


def _table(suite: str, memory: str, run: dict[str, Any], rates: dict[str, list[int]]) -> str:
    facts = {"suite": suite, "memory": memory, "version": run["libraries"]["nb-oomhelper"], "date": run["date"][:10]}
    lines = ["", "[[run]]", *(f'{name} = "{value}"' for name, value in facts.items()), "[run.rates]"]
    return "\n".join([*lines, *(f"{fix} = {count}" for fix, count in sorted(rates.items()))]) + "\n"


if __name__ == "__main__":
    FILE.write_text(make(), "utf-8")
