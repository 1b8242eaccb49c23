"""`python -m benchmarks.prediction [--only MACHINE …] [--situations NAME …] [--json FILE]`: on the played device.

Each fix that can be run is run in a situation of its own. What it was said to free, of the allocator and of the driver,
stands beside what both then say; whether the request fits is tried by making just that request.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import played_cuda
from tests.kernel.driver import Kernel, Reply

from benchmarks import machine
from benchmarks.prediction import report
from benchmarks.prediction.situations import MACHINES, PREPARE, SITUATIONS

_CASE = "get_ipython()._nb_oomhelper.case"
_PLANS = f"""[dict(number=one.number, fix=one.fix, subject=one.subject, freed=one.predicted, fits=one.fits,
    driver=to_driver({_CASE}.snapshot, one))
    for one in {_CASE}.plans if one.applicability != 'display_only' and not one.reruns and not one.loads]"""
_FIGURES = "[torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0]]"
_RESET = """
for _name in set(globals()) - NAMES: globals().pop(_name, None)
nb_oomhelper.release(deep=True, history=True); gc.collect(); torch.cuda.empty_cache()
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every situation on every machine; 0 where no prediction was false."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction")
    parser.add_argument("--only", nargs="+", choices=[*MACHINES], default=[*MACHINES], metavar="MACHINE")
    parser.add_argument("--situations", nargs="+", choices=[*SITUATIONS], default=[*SITUATIONS], metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    options = parser.parse_args(arguments)
    rows, broken = [], False
    for name in options.only:
        try:
            for row in _on(name, options.situations):
                print(report.line(row), flush=True)
                rows.append(row)
                _keep(rows, options.json)
        except TrialError as error:
            print(f"{name}: {error}", flush=True)
            broken = True
    print(f"\n{report.summary(rows)}")
    return 1 if broken or any(report.judge(row) for row in rows) else 0


def _keep(rows: Sequence[dict[str, Any]], path: Path | None) -> None:
    if path is not None:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe(), "rows": rows}
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class TrialError(Exception):
    """A situation that is not what it says, or a cell that fails."""


def _on(name: str, situations: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All trials on one machine, in one kernel, which is made new where something stays behind."""
    played = MACHINES[name]
    with tempfile.TemporaryDirectory(prefix="prediction-") as folder:
        env = played_cuda.play(Path(folder), played.scenario)
        if played.options:
            env |= {"PYTORCH_CUDA_ALLOC_CONF": played.options}
        with Kernel(played_cuda.PYTHON, Path(folder), env) as kernel:
            _do(kernel, played.before + PREPARE)
            _do(kernel, "NAMES = None\nNAMES = set(globals())")
            for situation in situations:
                if not played.only or situation in played.only:
                    for row in _in(kernel, SITUATIONS[situation]):
                        yield {"machine": name, "situation": situation, **row}


def _in(kernel: Kernel, cells: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for each fix."""
    done: set[tuple[str, str]] = set()
    while True:
        _do(kernel, _RESET)
        for cell in cells[:-1]:
            _do(kernel, cell)
        reply = kernel.execute(cells[-1], timeout=120, stop_on_error=False)
        if reply.status == "ok":  # with pages that are given back one by one, there is room
            return
        if "memory" not in reply.evalue:
            raise TrialError(f"{cells[-1]!r} did not run out of memory: {reply.evalue}")
        plans = [one for one in kernel.eval(_PLANS) if (one["fix"], one["subject"]) not in done]
        if not plans:
            return
        yield _try(kernel, plans[0])
        done.add((plans[0]["fix"], plans[0]["subject"]))


def _try(kernel: Kernel, plan: dict[str, Any]) -> dict[str, Any]:
    before = kernel.eval(_FIGURES)
    _do(kernel, f"%oom fix {plan.pop('number')} --yes")
    after = kernel.eval(_FIGURES)
    asked = kernel.eval("ASKED")
    made = kernel.execute(f"torch.empty({asked}, dtype=torch.uint8, device='cuda');", stop_on_error=False)
    return plan | {
        "asked": asked,
        "measured_freed": before[0] - after[0],
        "measured_driver": after[1] - before[1],
        "measured_fits": made.status == "ok",
    }


def _do(kernel: Kernel, cell: str) -> Reply:
    reply = kernel.execute(cell, timeout=120)
    if reply.status != "ok":
        raise TrialError(f"{cell}\n{reply.ename}: {reply.evalue}")
    return reply


if __name__ == "__main__":
    sys.exit(main())
