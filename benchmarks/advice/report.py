"""A run as a table for people and as a record for JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from benchmarks.advice.notebook import Notebook
from benchmarks.advice.suite import Run, is_right
from benchmarks.advice.trial import FIXES, Trial, note

_COLUMN = 9
_LEGEND = "ran: the failed cell ran to its end.  -: not tried.  none: nothing to click.  !: something unnamed was lost."


def heading(run: Run) -> str:
    """The lines above the rows."""
    libraries = ", ".join(f"{name} {version}" for name, version in run.facts["libraries"].items())
    lines = [f"{run.place.name}: Python {run.facts['python']}, {libraries}", _LEGEND]
    lines += [f"skipped: {name}: {reason}" for name, reason in run.skipped.items()]
    columns = "".join(f"{way:>{_COLUMN}}" for way in run.ways)
    return "\n".join([*lines, "", " " * _width(run) + columns + f"{'s':>7}  first fix"])


def row(run: Run, notebook: Notebook) -> str:
    """One notebook's row."""
    cells = [_cell(run, notebook, way) for way in run.ways]
    first = run.trials.get((notebook.name, "first"))
    tail = "" if first is None else f"{first.seconds:>7.1f}  {_first(notebook, first)}"
    return f"{notebook.name:<{_width(run)}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells) + tail


def _first(notebook: Notebook, first: Trial) -> str:
    mark = "" if is_right(notebook, first) else "WRONG  " if notebook.cure else "WRONG (no cure here)  "
    said = f"{first.title or first.error}" + (f" [{first.verdict}]" if first.verdict else "")
    return mark + said + (f" -> {first.error}" if first.error and first.title else "")


def _cell(run: Run, notebook: Notebook, way: str) -> str:
    if (notebook.name, way) in run.failed:
        return "broken"
    one = run.trials.get((notebook.name, way))
    if one is None:
        return "-"
    return ("ran" if one.ran else "fails" if one.offered else "none") + (" !" if one.lost else "")


def summary(run: Run) -> str:
    """The lines below the rows, and what went wrong."""
    sums = summarize(run)
    lines = [
        f"right with the first fix: {sums['right_first']} of {sums['notebooks']}",
        f"right with one of the first three: {sums['right_three']} of {sums['notebooks']}",
        f"harm: {sums['harm']} notebooks",
    ]
    lines += [f"ran after {way}: {count}" for way, count in sums["ran"].items() if way not in FIXES]
    lines += [
        f"lost without a word: {name}, {way}: {', '.join(one.lost)}"
        for (name, way), one in run.trials.items()
        if one.lost and way in FIXES
    ]
    lines += [f"broken: {name}, {way}: {text}" for (name, way), text in run.failed.items()]
    return "\n".join(["", *lines])


def summarize(run: Run) -> dict[str, Any]:
    """Counts of notebooks: right with the first fix, with one of the first three, harmed by a fix; ran, by way."""
    right_first, right_three, harm = 0, 0, 0
    for one in run.notebooks:
        fixes = [found for way in FIXES if (found := run.trials.get((one.name, way))) is not None]
        first_right = bool(fixes) and is_right(one, fixes[0])
        right_first += first_right
        right_three += first_right or (one.cure and any(found.ran for found in fixes))
        harm += any(found.lost for found in fixes)
    ran = {way: sum(found.ran for (_, name), found in run.trials.items() if name == way) for way in run.ways}
    return {
        "notebooks": len(run.notebooks),
        "right_first": right_first,
        "right_three": right_three,
        "harm": harm,
        "ran": ran,
    }


def to_record(run: Run) -> dict[str, Any]:
    """The whole run, ready for JSON: times in seconds."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "memory": run.place.name,
        **run.facts,
        "skipped": run.skipped,
        "summary": summarize(run),
        "notebooks": [_notebook(run, one) for one in run.notebooks],
        "failed": [{"notebook": name, "way": way} for name, way in run.failed],
    }


def _notebook(run: Run, one: Notebook) -> dict[str, Any]:
    found = {way: run.trials.get((one.name, way)) for way in run.ways}
    return {
        "name": one.name,
        "title": one.title,
        "kind": one.kind,
        "cure": one.cure,
        "good": one.good,
        "right": found.get("first") is not None and is_right(one, run.trials[one.name, "first"]),
        "ways": {way: note(trial) for way, trial in found.items() if trial is not None},
    }


def _width(run: Run) -> int:
    return max((len(one.name) for one in run.notebooks), default=0) + 1
