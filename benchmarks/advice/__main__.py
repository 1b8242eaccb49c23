"""`python -m benchmarks.advice [--only NAME …] [--ways WAY …] [--memory NAME …] [--folder DIR]`; more: --help."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.advice import notebook, report, suite, trial
from benchmarks.advice.place import PLACES
from benchmarks.advice.trial import WAYS


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every way on every notebook; 0 where all trials could be made."""
    options, parser = _parse(arguments)
    notebooks = notebook.load_all(options.folder)
    if unknown := ", ".join(name for name in options.only or () if name not in notebooks):
        parser.error(f"there is no notebook {unknown} in {options.folder}")
    chosen = [notebooks[name] for name in options.only or notebooks]
    records, broken = [], False
    for place in (PLACES[name] for name in options.memory):
        if lack := place.lacks():
            print(f"{place.name}: {lack}", file=sys.stderr)
            broken = True
            continue
        run = suite.prepare(place, options.ways, chosen)
        broken |= not (_prove(run, options.jobs) if options.prove else _try(run, options.jobs))
        records.append(report.to_record(run))
    if options.json:
        text = json.dumps({"runs": records}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if broken else 0


def _try(run: suite.Run, jobs: int) -> bool:
    """Make and print the trials; True where all could be made."""
    print(report.heading(run), flush=True)
    for one in suite.run_all(run, jobs):
        print(report.row(run, one), flush=True)
    print(report.summary(run), flush=True)
    return not run.failed


def _prove(run: suite.Run, jobs: int) -> bool:
    """See whether the notebooks are what they say; True where all are."""
    good = True
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(partial(trial.prove, place=run.place), run.notebooks)
        for one, problems in zip(run.notebooks, found, strict=True):
            print(f"{run.place.name}: {one.name}: {'; '.join(problems) or 'as it says'}", flush=True)
            good &= not problems
    return good


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.advice",
        description="Notebooks that run out of memory: does the failed cell run after a click of the first fix?",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these notebooks alone")
    parser.add_argument(
        "--folder", type=Path, default=notebook.FOLDER, metavar="DIR", help="of notebooks in place of the suite's own"
    )
    parser.add_argument(
        "--memory", nargs="+", choices=[*PLACES], default=[*PLACES], metavar="NAME", help="host, played"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=f"of {', '.join(WAYS)}"
    )
    parser.add_argument("--prove", action="store_true", help="only see whether each notebook is what it says")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="notebooks at a time (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return options, parser


if __name__ == "__main__":
    sys.exit(main())
