"""All trials of a run: which of them can be made here, several at a time, in the order of the table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import KernelError

from benchmarks.recovery import trial
from benchmarks.recovery.inside import PRELUDE
from benchmarks.recovery.methods import METHODS, Method
from benchmarks.recovery.scenario import Scenario, ScenarioError
from benchmarks.recovery.trial import RecoveryKernel, Trial

PYTHONS = {"new": Path(sys.executable), "old": trial.ROOT / ".venv-old" / "bin" / "python"}
_FIND = "import sys; from importlib.util import find_spec; print(*[one for one in sys.argv[1:] if find_spec(one)])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Seconds until the failed cell's twin has run again, median of `repeats`.

    Attributes:
        click: release(), then the cell.
        restart: A new kernel, the imports and the set-up again, then the cell.
    """

    click: float
    restart: float
    repeats: int


@dataclass(slots=True, kw_only=True)
class Run:
    """What was measured in one run; `trials` by scenario and method.

    Attributes:
        skipped: Why a method was not tried, by its name.
        failed: What went wrong in a trial, by scenario and method.
        facts: Python, device and versions, as the measured kernel tells them.
    """

    pair: str
    device: str
    methods: list[Method]
    scenarios: list[Scenario]
    skipped: dict[str, str]
    facts: dict[str, Any]
    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    restart: Restart | None = None


def prepare(pair: str, device: str, methods: Sequence[Method], scenarios: Sequence[Scenario]) -> Run:
    """See what can be tried with that pair's interpreter."""
    python = PYTHONS[pair]
    here = _installed(
        python, {*(method.needs for method in methods), *(name for one in scenarios for name in one.needs)}
    )
    return Run(
        pair=pair,
        device=device,
        methods=[method for method in methods if not method.needs or method.needs in here],
        scenarios=[one for one in scenarios if here.issuperset(one.needs) and not (one.host_only and device != "cpu")],
        skipped={
            method.name: f"{method.needs} is not installed"
            for method in methods
            if method.needs and method.needs not in here
        },
        facts=_facts(python, device),
    )


def run_all(run: Run, jobs: int) -> Generator[Scenario, None, None]:
    """Make every trial, `jobs` at a time; give each scenario when all its trials are there."""
    python = PYTHONS[run.pair]
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = {
            (one.name, method.name): pool.submit(trial.run, one, method, python, run.device)
            for one in run.scenarios
            for method in run.methods
        }
        for one in run.scenarios:
            for method in run.methods:
                key = one.name, method.name
                try:
                    run.trials[key] = waiting.pop(key).result()
                except (ScenarioError, KernelError) as error:
                    run.failed[key] = str(error)
            yield one
    finally:
        pool.shutdown(cancel_futures=True)


def time_restart(run: Run, scenario: Scenario, repeats: int = 3) -> Restart:
    """Compare a click with a kernel restart, one after the other, with nothing beside them."""
    clicks, restarts = [], []
    for _ in range(repeats):
        with TemporaryDirectory() as home:
            kernel = RecoveryKernel(PYTHONS[run.pair], Path(home), run.device)
            try:
                method = METHODS["ours"]
                trial.fail(kernel, scenario, method)
                clicks.append(_seconds(kernel, [method.code(scenario), scenario.twin]))
            finally:
                kernel.end()
        with TemporaryDirectory() as home:
            started = time.monotonic()
            with RecoveryKernel(PYTHONS[run.pair], Path(home), run.device) as kernel:
                _seconds(kernel, ["%load_ext nb_oomhelper", PRELUDE, scenario.set_up, scenario.twin])
                restarts.append(time.monotonic() - started)
    return Restart(click=statistics.median(clicks), restart=statistics.median(restarts), repeats=repeats)


def default_jobs() -> int:
    """One for each processor that this process may use, up to eight."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(8, cpus or 1))


def _seconds(kernel: RecoveryKernel, cells: Sequence[str]) -> float:
    started = time.monotonic()
    for cell in cells:
        kernel.must(cell)
    return time.monotonic() - started


def _installed(python: Path, names: set[str]) -> set[str]:
    wanted = sorted(names - {""})
    found = subprocess.run([str(python), "-c", _FIND, *wanted], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def _facts(python: Path, device: str) -> dict[str, Any]:
    with TemporaryDirectory() as home, RecoveryKernel(python, Path(home), device) as kernel:
        return dict(kernel.ask("facts()"))
