"""All trials of a run: which can be made here, several at a time; a later fix only where those before it did not do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kernel.driver import KernelError

from benchmarks.advice import trial
from benchmarks.advice.notebook import Notebook, NotebookError
from benchmarks.advice.place import Place
from benchmarks.advice.trial import FIXES, Trial
from benchmarks.advice.user import NotebookKernel

_FIND = "import sys; from importlib.util import find_spec; print(*[one for one in sys.argv[1:] if find_spec(one)])"


@dataclass(slots=True, kw_only=True)
class Run:
    """What was tried in one run; `trials` by notebook and way.

    Attributes:
        skipped: Why a notebook was not tried, by its name.
        failed: What went wrong with a notebook or with us, by notebook and way.
        facts: Python and versions, as the kernels tell them.
    """

    place: Place
    ways: tuple[str, ...]
    notebooks: list[Notebook]
    skipped: dict[str, str]
    facts: dict[str, Any]
    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


def prepare(place: Place, ways: Sequence[str], notebooks: Sequence[Notebook]) -> Run:
    """See what can be tried there."""
    wanted = sorted({_package(name) for one in notebooks for name in one.needs})
    found = subprocess.run([str(place.python), "-c", _FIND, *wanted], capture_output=True, text=True, check=True)
    here = set(found.stdout.split())
    fitting = [one for one in notebooks if place.has(one)]
    skipped = {
        one.name: f"needs {', '.join(lacking)}"
        for one in fitting
        if (lacking := sorted({*map(_package, one.needs)} - here))
    }
    with TemporaryDirectory() as home, NotebookKernel(place.python, Path(home), {}) as kernel:
        facts = dict(kernel.ask("facts()"))
    return Run(
        place=place,
        ways=tuple(ways),
        notebooks=[one for one in fitting if one.name not in skipped],
        skipped=skipped,
        facts=facts,
    )


def _package(module: str) -> str:
    return module.partition(".")[0]


def run_all(run: Run, jobs: int) -> Iterator[Notebook]:
    """Make every trial, `jobs` notebooks at a time; give each notebook when its trials are there."""
    pool = ThreadPoolExecutor(jobs)
    try:
        for one, _ in zip(run.notebooks, pool.map(partial(_run_one, run), run.notebooks), strict=True):
            yield one
    finally:
        pool.shutdown(cancel_futures=True)


def _run_one(run: Run, notebook: Notebook) -> None:
    for way in run.ways:
        if way in FIXES and _is_settled(run, notebook):
            continue
        try:
            result = trial.run(notebook, way, run.place)
        except (NotebookError, KernelError, AssertionError) as error:
            run.failed[notebook.name, way] = str(error)
        else:
            if result is not None:
                run.trials[notebook.name, way] = result


def _is_settled(run: Run, notebook: Notebook) -> bool:
    """Whether a fix before has made the cell run, or there was nothing more to click."""
    done = [one for way in FIXES if (one := run.trials.get((notebook.name, way))) is not None]
    return any(one.ran for one in done) or any(not one.title for one in done)


def is_right(notebook: Notebook, first: Trial) -> bool:
    """Whether the first advice was right: the cell ran; or the panel says first that it cannot, and offers no cure."""
    if notebook.cure:
        return first.ran
    return not first.offered and re.search(notebook.says, first.headline, re.IGNORECASE) is not None
