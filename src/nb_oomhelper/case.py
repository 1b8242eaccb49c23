"""One out-of-memory error from the exception to the last outcome: the order of the story, and nothing else.

No text for people and no IPython in here: those who show a case read its records.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.diagnosis.request import made_certain
from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.failure.detection import Failure
from nb_oomhelper.holders.find import DEADLINE, loaded, placed, search, still_held
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.introspection import traceback_of
from nb_oomhelper.knowledge.catalog import Catalog, Match
from nb_oomhelper.loading.failed_call import find_call
from nb_oomhelper.loading.reload import Load, after_load, estimate_whole, study
from nb_oomhelper.memory.nvml import Driver
from nb_oomhelper.memory.snapshot import read_measure, take_snapshot
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent
from nb_oomhelper.records.memory import DriverReading, HostMemory, MemorySnapshot, Span
from nb_oomhelper.records.remedy import FixPlan, Outcome
from nb_oomhelper.remedies import history
from nb_oomhelper.remedies.cell_phase import tell_phase
from nb_oomhelper.remedies.notebook import UNREAD, Notebook, inspect_notebook
from nb_oomhelper.remedies.planning import plan, predict_effect
from nb_oomhelper.remedies.running import RunCode, run

_log = logging.getLogger(__name__)
_Part = TypeVar("_Part")


@dataclass(slots=True)
class Case:
    """One out-of-memory error and what was done about it. Numbers and text only.

    Attributes:
        event, snapshot, diagnosis: What failed, memory at that moment, and our reading of both.
        match: The entry that bears on it, or None.
        plans: Fixes, best first.
        cell: Source of the cell that failed; "" where it is not known.
        rates: For each fix, (n, m): it helped in n of m measured outcomes before this case.
        outcomes: What was run here, oldest first.
        released_holders: The holders that these fixes let go: indexes of rows of the snapshot's holdings.
    """

    event: OomEvent
    snapshot: MemorySnapshot
    diagnosis: Diagnosis
    match: Match | None = None
    plans: tuple[FixPlan, ...] = ()
    cell: str = ""
    rates: dict[str, tuple[int, int]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    released_holders: frozenset[int] = frozenset()


@dataclass(slots=True)
class Services:
    """What cases are worked on with: made once by the extension, and passed to whoever needs it.

    Attributes:
        driver: The door to NVML.
        catalog: Gives the knowledge; called late, because reading it opens files.
        history: Where outcomes are kept; None keeps none.
        shell: The InteractiveShell, or None outside IPython.
        problem: The last thing that went wrong with us, one line, or None; and its traceback.
    """

    driver: Driver
    catalog: Callable[[], Catalog]
    history: Callable[[], Path | None]
    shell: Any = None
    problem: str | None = None
    trace: str | None = None

    def failed(self, problem: BaseException) -> None:
        """Keep what went wrong with a part of ours: one line, and the traceback as text; nothing of its frames."""
        self.problem = f"{type(problem).__name__}: {problem}".strip().splitlines()[0]
        self.trace = "".join(traceback.format_exception(problem))

    def attempt(self, part: Callable[[], _Part], otherwise: _Part) -> _Part:
        """Do one part of a case. One that fails costs only itself: the rest must be shown all the same.

        Args:
            part: Is called once.
            otherwise: What is given where it failed; the problem is kept.

        Returns:
            What the part gives, or `otherwise`.
        """
        try:
            return part()
        except Exception as problem:
            _log.debug("a part failed", exc_info=True)
            with contextlib.suppress(Exception):
                self.failed(problem)
            return otherwise


def open_case(
    failure: Failure,
    scope: Callable[[], Scope],
    services: Services,
    cell: str = "",
    span: Span = (None, None),
) -> Case | None:
    """Take the facts of an out-of-memory error down.

    Args:
        failure: The exception as it was read; no reference to it, its exceptions or their frames is kept.
        scope: Where to look for holders; called only if memory ran out, in this process.
        services: What to work with.
        cell: Source of the cell that failed.
        span: What the process held before that cell, and when it had failed.

    Returns:
        What is known of it, with plans for fixes; None where memory did not run out.
    """
    event = failure.event
    if event is None:
        return None
    if event.remote is not None:  # neither this notebook nor this machine's memory explains it
        return _written(event, _unread(), None, Notebook(), services, cell)
    event = replace(event, call=services.attempt(lambda: _failed_call(failure), None))
    return _written(*_taken_down(event, scope, services, cell), services, cell, span)


def _taken_down(
    event: OomEvent, scope: Callable[[], Scope], services: Services, cell: str
) -> tuple[OomEvent, MemorySnapshot, Load | None, Notebook]:
    """What memory and the notebook say. The scope, which refers to the user's objects, lives no longer than this."""
    where = services.attempt(scope, Scope())
    notebook = services.attempt(lambda: inspect_notebook(where.variables, cell, where.inputs, where.frames), UNREAD)
    snapshot = services.attempt(lambda: _read(event, services, where), _unread())
    phase = services.attempt(lambda: tell_phase(event, snapshot.holdings, notebook), event.phase)
    told = replace(event, phase=phase)  # all that follows is decided by it
    told = services.attempt(lambda: made_certain(told, snapshot), told)
    load = services.attempt(lambda: study(told, snapshot, notebook.names, partial(loaded, where)), None)
    return told, snapshot, load, notebook


def minimal_case(event: OomEvent, services: Services) -> Case:
    """Make a case of nothing but the error's own numbers, and a release: where there is no room for more, or no time.

    Args:
        event: What failed.
        services: What to work with.

    Returns:
        The case, with a plan that releases the failed cell.
    """
    return _written(event, _unread(), None, Notebook(), services, "")


def _written(
    event: OomEvent,
    snapshot: MemorySnapshot,
    load: Load | None,
    notebook: Notebook,
    services: Services,
    cell: str,
    span: Span = (None, None),
) -> Case:
    """Our reading of what was taken down."""
    bare = Diagnosis(requested=event.requested, free=event.free, capacity=event.capacity, short=None)
    diagnosis = services.attempt(
        lambda: diagnose(event, snapshot, span, torch="torch" in sys.modules, failed=services.failed), bare
    )
    if load is not None:
        diagnosis = services.attempt(lambda: estimate_whole(diagnosis, load), diagnosis)
    case = Case(event=event, snapshot=snapshot, diagnosis=diagnosis, cell=cell)
    catalog = services.attempt(services.catalog, None)
    if catalog is not None:
        case.match = services.attempt(lambda: next(iter(catalog.choose(event)), None), None)
        no_plans: tuple[FixPlan, ...] = ()
        case.plans = (
            no_plans
            if event.remote
            else services.attempt(
                lambda: plan(catalog, event, snapshot, diagnosis, load, notebook, failed=services.failed), ()
            )
        )
    case.rates = services.attempt(lambda: rates(services), {})
    return case


def _read(event: OomEvent, services: Services, where: Scope | None) -> MemorySnapshot:
    """Memory now on the event's device; with who holds it where there is a scope to look in."""
    read = partial(
        take_snapshot, services.driver, backend=event.backend, device=event.device, framework=event.framework
    )
    if where is None:
        return read()
    snapshot = read(blocks=True)
    return replace(snapshot, holdings=search(where, event.backend, event.device, DEADLINE, everywhere=True))


def _unread() -> MemorySnapshot:
    """Memory as it is where nothing could be read."""
    return MemorySnapshot(taken_at=time.time(), driver=DriverReading(), host=HostMemory())


def _failed_call(failure: Failure) -> FailedCall | None:
    """The loader call; each traceback by itself, for a frame that wraps an error has another line in each."""
    calls = (find_call(traceback_of(one)) for one in reversed(failure.errors))
    return next((call for call in calls if call is not None), None)


def run_fix(case: Case, number: int, run_code: RunCode, scope: Callable[[], Scope], services: Services) -> Outcome:
    """Run one of a case's plans, measure it, find who keeps the rest, record it.

    Args:
        case: Gets the outcome, and what it changes in its plans.
        number: The plan's own.
        run_code: Runs code in the user's namespace; gives one line of its error, or None.
        scope: Where to look for holders afterwards.
        services: What to work with.

    Returns:
        The outcome, with bytes before and after.

    Raises:
        UsageError: There is no such plan, or it is only to be shown.
    """
    chosen = next((one for one in case.plans if one.number == number), None)
    if chosen is None:
        raise UsageError(f"there is no fix {number}; the last panel has {len(case.plans)}")
    if chosen.applicability == "display_only":
        raise UsageError(f"fix {number} is only shown: copy its code")
    event = case.event
    read = partial(read_measure, services.driver, event.backend, event.device, event.framework, blocks=True)
    ran = run(chosen, run_code, read, case.diagnosis, services.shell)
    outcome = services.attempt(
        lambda: _with_holders(ran, chosen, event, scope()), ran
    )  # the code has run, whatever fails now
    case.outcomes.append(outcome)
    if outcome.loaded:
        case.plans = services.attempt(lambda: tuple(after_load(one, chosen) for one in case.plans), case.plans)
    if outcome.error is None:
        case.released_holders |= chosen.released_holders
        case.plans = services.attempt(lambda: _predicted(case), case.plans)
    services.attempt(lambda: _record(outcome, case, services), None)
    return outcome


def _predicted(case: Case) -> tuple[FixPlan, ...]:
    """The plans with what each would still free, after those that have run."""
    return tuple(predict_effect(one, case.snapshot, case.diagnosis, case.released_holders) for one in case.plans)


def _with_holders(outcome: Outcome, plan: FixPlan, event: OomEvent, where: Scope) -> Outcome:
    """An outcome with who keeps memory now, and where what was loaded is."""
    outcome = replace(outcome, held=still_held(where, event.backend, event.device))
    if not outcome.loaded:
        return outcome
    device = plan.placement.device if plan.placement else event.device
    return replace(outcome, placed=placed(where.variables.get(plan.subject), device))


def read_again(case: Case, services: Services) -> MemorySnapshot:
    """Read memory as it is now.

    Args:
        case: Says on which device.
        services: What to work with.

    Returns:
        A snapshot without holders.
    """
    return _read(case.event, services, None)


def rates(services: Services) -> dict[str, tuple[int, int]]:
    """Give for each fix (n, m): it helped in n of m measured outcomes of this person's."""
    path = services.history()
    if path is None:
        return {}
    try:
        return history.measured_rates(path)
    except OomHelperError as error:
        services.problem, services.trace = str(error), None
        return {}


def _record(outcome: Outcome, case: Case, services: Services) -> None:
    path = services.history()
    if path is None:
        return
    entry = case.match.entry.code if case.match and case.match.relation == "match" else None
    try:
        history.append(path, outcome, case.event, entry)
        if services.trace is None:  # it was the history's own
            services.problem = None
    except OomHelperError as error:
        services.problem, services.trace = str(error), None
