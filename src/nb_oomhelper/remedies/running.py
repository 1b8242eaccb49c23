"""From running a fix, or a release, to its measured outcome."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nb_oomhelper.failure.detection import detect_text
from nb_oomhelper.holders.find import placed, still_held
from nb_oomhelper.holders.scope import Scope, scope_of
from nb_oomhelper.loading.disk import OFFLOAD_PREFIX, scratch
from nb_oomhelper.memory.allocators import busiest
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.snapshot import open_driver, read_measure
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.remedy import FixPlan, Outcome
from nb_oomhelper.remedies.comparing import ReadMeasure, outcome_between
from nb_oomhelper.remedies.releasing import give_back, steps_taken
from nb_oomhelper.session import current_shell

_HELD = 0.1  # seconds to find who keeps the rest: releasing is meant to be quick
RunCode = Callable[[str], str | None]  # runs code in the user's namespace; one line of its error, or None


def run(plan: FixPlan, run_code: RunCode, read: ReadMeasure, diagnosis: Diagnosis, shell: Any = None) -> Outcome:
    """Run a plan's code and measure what it changed.

    Args:
        plan: What to run; "display_only" plans are refused by the caller.
        run_code: Runs the code in the user's namespace.
        read: Reads the figures of the device that the event is about.
        diagnosis: What had failed.
        shell: The InteractiveShell, or None outside IPython.

    Returns:
        What it did, measured; an error of the code is one line of it.
    """
    before, started, started_at = read(), time.monotonic(), time.time()
    with steps_taken() as steps:
        error = run_code(plan.code)
        if error is not None and (plan.loads or plan.reruns):  # what it had made lives on in its frames
            give_back(shell, read=read)
    seconds = time.monotonic() - started
    outcome = outcome_between(
        plan.fix,
        before,
        read(),
        requested=diagnosis.requested,
        rerun=diagnosis.rerun,
        printed=diagnosis.printed,
        error=error,
        seconds=seconds,
        subject=plan.subject,
        predicted=plan.predicted,
        steps=tuple(steps),
    )
    if plan.reruns:
        return replace(outcome, fits=error is None, whole_cell_fits=None, ran=error is None)
    if not plan.loads:
        return outcome
    # What was asked for is held now: what is free beside it says nothing about whether it fitted.
    return replace(
        outcome,
        fits=error is None,
        whole_cell_fits=None,
        loaded=error is None,
        planned=plan.placement,
        folder=_folder_since(started_at) if plan.makes_folder else None,
    )


def with_run(outcome: Outcome, plan: FixPlan, cell: str) -> Outcome:
    """Say that the cell has run to its end where a load has, changed, that the cell ends with.

    Args:
        outcome: What came of it.
        plan: What was run.
        cell: The failed cell.
    """
    statement = plan.before.strip()
    ends = bool(statement) and f"\n{cell.strip()}".endswith(f"\n{statement}")
    return replace(outcome, ran=True) if outcome.loaded and ends else outcome


def with_holders(outcome: Outcome, plan: FixPlan, event: OomEvent, where: Scope) -> Outcome:
    """Say who keeps memory now, and where what was loaded is.

    Args:
        outcome: What came of it.
        plan: What was run.
        event: What had failed.
        where: Where to look.
    """
    outcome = replace(outcome, held=still_held(where, event.backend, event.device))
    if not outcome.loaded:
        return outcome
    device = plan.placement.device if plan.placement else event.device
    return replace(outcome, placed=placed(where.variables.get(plan.subject), device))


def _folder_since(moment: float) -> str | None:
    """The folder for weights that the code has made, if any were put there: else they stay in the model's own files."""
    fresh = []
    own = getattr(os, "getuid", lambda: None)()  # Windows has no such numbers, and a temporary folder for each user
    try:
        for folder in Path(scratch()[0] or ".").glob(f"{OFFLOAD_PREFIX}*"):
            told = folder.stat()
            if told.st_ctime >= moment - 1 and own in (None, told.st_uid) and any(folder.iterdir()):
                fresh.append((told.st_ctime, str(folder)))
    except OSError:  # somebody else's, or gone meanwhile
        return None
    return max(fresh)[1] if fresh else None


def release(*, deep: bool = False, history: bool = False, names: Sequence[str] = ()) -> Outcome:
    """Give back what a failed cell keeps, without restarting the kernel.

    Clears the frames of the last error, with every cause and context of it, collects, and empties the
    caches of the loaded frameworks. Your variables stay, and `%tb` still prints.

    Args:
        deep: Also drop the exceptions themselves, for tensors in their arguments: `%tb` and `%debug` have
            nothing to show afterwards.
        history: Also forget displayed results: `Out`, `_`, `__`, `___`. Their text stays in the notebook.
        names: Variables of yours to delete, also where `Out` or the traceback shares them.

    Returns:
        Bytes before and after, what each step did and gave back, and who keeps most of the rest.

    Raises:
        UsageError: A name is not a variable of yours. Nothing was released then.
    """
    shell = current_shell()
    with open_driver(shell) as driver:
        return release_in(shell, driver, deep=deep, history=history, names=names)


def release_in(
    shell: Any, driver: Driver, *, deep: bool = False, history: bool = False, names: Sequence[str] = ()
) -> Outcome:
    """Do as `release` does, in one shell.

    Args:
        shell: The InteractiveShell, or None outside IPython.
        driver: The door to NVML.
        deep, history, names: As there.

    Returns:
        As there.

    Raises:
        UsageError: A name is not a variable of the user's.
    """
    backend, device = busiest()
    read = partial(read_measure, driver, backend, device)
    before, started = read(), time.monotonic()
    steps = give_back(shell, deep=deep, history=history, names=names, read=read)
    seconds = time.monotonic() - started
    after = read()
    held = () if shell is None else still_held(scope_of(shell), backend, device, _HELD)
    return replace(outcome_between("release", before, after, seconds=seconds), steps=steps, held=held)


def ran_out(error: str) -> bool:
    """Tell whether a fix has failed for a lack of memory.

    Args:
        error: A line of the error, as `Outcome` has it.
    """
    kind, _, text = error.partition(": ")
    return detect_text(text, kind) is not None
