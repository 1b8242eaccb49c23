"""A smaller size that really fits: forecasts of the failed cell with a fix, in place of the linear rule's estimate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nb_oomhelper.case import Case
from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.holders.scope import scope_of
from nb_oomhelper.records.forecast import Forecast
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies.notebook import Notebook, inspect_notebook
from nb_oomhelper.remedies.planning import resized
from nb_oomhelper.remedies.verdicts import judge
from nb_oomhelper.services import Services

if TYPE_CHECKING:
    from nb_oomhelper.forecasting.cell_run import CellRun

_DEADLINE = 60.0  # seconds for all
_EACH = 30.0
_TRIES = 3
_LARGEST = 0.95  # of the size that has failed
_Run = Callable[[FixPlan], Forecast]


def forecast_fix(case: Case, number: int, services: Services) -> FixPlan:
    """Find the size with which a fix makes the failed cell fit. The cell is run for it, in copies of this process.

    Args:
        case: Gets the plan in place of the one that it had.
        number: The fix's own.
        services: What to work with.

    Returns:
        The plan with the largest size that is expected to fit, and its forecast; where none does, with the smallest.

    Raises:
        UsageError: There is no such fix, or no forecast can be made of it.
        OomHelperError: This process cannot be copied.
    """
    plan = next((one for one in case.plans if one.number == number), None)
    if plan is None:
        raise UsageError(f"there is no fix {number}; the last panel has {len(case.plans)}")
    if not plan.foreseeable or plan.applicability == "display_only":
        raise UsageError(f"no forecast of fix {number}: it does not run the cell with another size")
    where = scope_of(services.shell)
    notebook = inspect_notebook(where.variables, case.cell, where.inputs, where.frames)
    del where
    found = _Search(case, notebook, services).largest(plan)
    chosen = judge(found, found.shortage) if found.shortage is not None else found
    case.plans = tuple(chosen if one.number == number else one for one in case.plans)
    return chosen


class _Search:
    """The forecasts of one fix, with one size after the other."""

    def __init__(self, case: Case, notebook: Notebook, services: Services) -> None:
        self._case, self._notebook, self._services = case, notebook, services
        self._until = time.monotonic() + _DEADLINE
        self._tried: dict[str, FixPlan] = {}

    def largest(self, plan: FixPlan) -> FixPlan:
        """The plan with the largest size that fits, of those that were tried."""
        from nb_oomhelper.forecasting.batches import fitting_part

        first = self._with_forecast(plan)
        second = self._with_forecast(plan.next_smaller) if plan.next_smaller and _ended(first) else None
        if second is None or not _ended(second):
            return first
        one, other = ((two.ratio, two.forecast) for two in (first, second) if two.forecast)
        part = fitting_part(one, other)
        for _ in range(_TRIES if part is not None else 0):
            wanted = self._resized(plan, min(_LARGEST, part or 0.0))
            if wanted is None or time.monotonic() > self._until or self._best(wanted.ratio) is not None:
                break
            self._with_forecast(wanted)
            part = (part or 0.0) * 0.9
        best = self._best(0.0)
        return best or min(self._tried.values(), key=lambda one: one.ratio)

    def _best(self, least: float) -> FixPlan | None:
        """The largest that fits, if it is as large as that."""
        fitting = [one for one in self._tried.values() if one.forecast and one.forecast.verdict == "fits"]
        best = max(fitting, key=lambda one: one.ratio, default=None)
        return best if best is not None and best.ratio >= least else None

    def _resized(self, plan: FixPlan, share: float) -> FixPlan | None:
        case, catalog = self._case, self._services.catalog()
        return resized(plan, share, catalog, case.event, case.snapshot, case.diagnosis, self._notebook)

    def _with_forecast(self, plan: FixPlan) -> FixPlan:
        from nb_oomhelper.forecasting.forecast import forecast_call

        known = self._tried.get(plan.subject)
        if known is not None:
            return known
        left = max(1.0, min(_EACH, self._until - time.monotonic()))
        host = self._case.event.backend == "host"
        found = forecast_call(self._cell_run(plan), "", deadline=left, host=host)
        made = replace(plan, forecast=found, number=plan.number, shortage=plan.shortage)
        self._tried[plan.subject] = made
        return made

    def _cell_run(self, plan: FixPlan) -> CellRun:
        from nb_oomhelper.forecasting.cell_run import CellRun
        from nb_oomhelper.remedies.releasing import give_back

        shell: Any = self._services.shell
        source = shell.transform_cell(plan.code)
        above = max(0, len(source.rstrip().split("\n")) - len(self._case.cell.strip("\n").rstrip().split("\n")))
        try:
            return CellRun(source, shell.user_ns, lambda: give_back(shell), above)
        except SyntaxError as error:
            raise OomHelperError(f"no forecast: {error}") from None


def _ended(plan: FixPlan) -> bool:
    return plan.forecast is not None and plan.forecast.ended == "returned"
