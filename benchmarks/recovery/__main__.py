"""`python -m benchmarks.recovery [--gpu] [--pair new|old] [--only NAME …] [--json FILE] [--svg FILE]`; more: --help."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recovery import chart, report, scenario, suite
from benchmarks.recovery.methods import METHODS

_RESTART = "local_tensors"  # the scenario that a kernel restart is compared with


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every method on every scenario; 0 where all trials could be made."""
    scenarios = scenario.load_all()
    options = _parse(arguments, sorted(scenarios))
    if not suite.PYTHONS[options.pair].exists():
        print("The environment with the oldest IPython is not there: make old", file=sys.stderr)
        return 1
    chosen = [scenarios[name] for name in options.only or scenarios]
    methods = [METHODS[name] for name in options.methods or METHODS]
    run = suite.prepare(options.pair, "cuda" if options.gpu else "cpu", methods, chosen)
    print(report.heading(run), flush=True)
    for one in suite.run_all(run, options.jobs):
        print(report.row(run, one), flush=True)
    if not options.only and not options.methods:
        run.restart = suite.time_restart(run, scenarios[_RESTART])
    print(report.summary(run))
    if options.json:
        text = json.dumps(report.to_record(run), indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.svg:
        options.svg.write_text(chart.draw(report.to_record(run)), encoding="utf-8")
    return 1 if run.failed else 0


def _parse(arguments: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery",
        description="Who gives memory back after an out-of-memory error, in scenarios of a small card of host memory.",
    )
    parser.add_argument("--gpu", action="store_true", help="on the CUDA device instead of host memory")
    parser.add_argument("--pair", choices=sorted(suite.PYTHONS), default="new", help="newest or oldest IPython")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these scenarios alone")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], metavar="NAME", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--jobs", type=int, default=suite.default_jobs(), metavar="N", help="trials at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the summary to this file")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
