"""What was tried for an error: how the cell fared after a fix, and what a new error of the same cell begins with."""

from __future__ import annotations

from dataclasses import replace

from nb_oomhelper.case import Case, record_run
from nb_oomhelper.remedies.verdicts import demote
from nb_oomhelper.services import Services
from nb_oomhelper.shell.cells import CANCELLED


def note_run(case: Case, error: str | None, services: Services) -> None:
    """Add to the last outcome how the cell fared after it.

    Args:
        case: Has the outcome; without one there is nothing to add to.
        error: One line of the error that the cell ended with, or None.
        services: What outcomes are kept with.
    """
    if case.outcomes and not _is_stopped(error):
        record_run(case, services, ran=error is None)
        case.outcomes[-1] = replace(case.outcomes[-1], ran=error is None, cell_error=error)


def _is_stopped(error: str | None) -> bool:
    """Whether somebody has stopped the cell: that tells nothing of the fix."""
    return error is not None and error.startswith(("KeyboardInterrupt", CANCELLED))


def follow(case: Case, before: Case) -> None:
    """Begin a case with what was tried before, where it is the same error of the same cell.

    Args:
        case: The new case; what was tried goes to the end of its plans.
        before: The case before it.
    """
    same = case.cell == before.cell and case.event.backend == before.event.backend
    cured = any(one.ran for one in before.outcomes[-1:])
    if case.cell and same and not cured and case.event.remote is None:
        case.earlier = (*before.earlier, *before.outcomes)
        case.plans = demote(case.plans, case.earlier)
