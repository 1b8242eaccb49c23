"""Measure side by side and print a table: `python -m benchmarks.run [--json FILE] [--gpu] [--only NAME] [--repeats N]`.

No time is ever asserted: machines differ, and busy ones lie. What counts is a ratio within one run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import cells, checkpoint, device, holding, load, machine, panel, reading, reload
from benchmarks.timing import Result

Benchmark = Callable[[int | None], Iterator[Result]]

BENCHMARKS: dict[str, Benchmark] = {
    "load": load.measure,
    "empty": cells.measure_empty,
    "error": cells.measure_error,
    "panel": panel.measure,
    "gpumem": reading.measure,
    "holdings": holding.measure_search,
    "release": holding.measure_release,
    "checkpoint": checkpoint.measure,
    "reload": reload.measure,
}
ON_DEVICE: dict[str, Benchmark] = {"device": device.measure}  # with --gpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 where all of it could be measured or was skipped for a reason that is told."""
    options = _parse(arguments)
    chosen = BENCHMARKS | (ON_DEVICE if options.gpu else {})
    if options.only:
        chosen = {options.only: (BENCHMARKS | ON_DEVICE)[options.only]}
    results = []
    for benchmark in chosen.values():
        for result in benchmark(options.repeats):
            print(to_text(result), flush=True)
            results.append(result)
    if options.json:
        record = to_record(results)
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure nb_oomhelper.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--gpu", action="store_true", help="also measure on the CUDA device")
    parser.add_argument("--only", choices=[*BENCHMARKS, *ON_DEVICE], metavar="NAME", help="run one benchmark alone")
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="rounds, for a quick look; fewer than usual say little"
    )
    options = parser.parse_args(arguments)
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def to_text(result: Result) -> str:
    """One comparison as lines of a table: median, quartiles, how many, and the ratio to the second side."""
    lines = [f"\n[{result.name}] {result.title}"]
    if result.skipped is not None:
        return "\n".join([*lines, f"  skipped: {result.skipped}"])
    base = result.sides[1].median if len(result.sides) > 1 else None
    width = max(len(side.name) for side in result.sides)
    for side in result.sides:
        low, high = side.quartiles
        times = f"{side.median:10.3f} ms  ({low:.3f} to {high:.3f}, n = {len(side.times)})"
        lines.append(f"  {side.name:<{width}} {times:<46}" + (f" {side.median / base:6.2f}" if base else ""))
    if result.goal is not None and result.ratio is not None:
        met = "met" if result.ratio <= result.goal else "missed"
        lines.append(f"  goal: a ratio of at most {result.goal:g}: {met}")
    return "\n".join(line.rstrip() for line in [*lines, *(f"  {note}" for note in result.notes)])


def to_record(results: Sequence[Result]) -> dict[str, Any]:
    """All comparisons with the date and the machine, ready for JSON; times in milliseconds."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "unit": "ms",
        "results": [_row(result) for result in results],
    }


def _row(result: Result) -> dict[str, Any]:
    sides = [
        {
            "name": side.name,
            "median": round(side.median, 4),
            "quartiles": [round(time, 4) for time in side.quartiles],
            "repeats": len(side.times),
        }
        for side in result.sides
    ]
    return {
        "name": result.name,
        "title": result.title,
        "sides": sides,
        "ratio": None if result.ratio is None else round(result.ratio, 4),
        "goal": result.goal,
        "notes": list(result.notes),
        "skipped": result.skipped,
    }


if __name__ == "__main__":
    sys.exit(main())
