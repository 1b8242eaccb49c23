"""One out-of-memory error from the exception to the last outcome: the order of the story, and nothing else.

No text for people and no IPython in here: those who show a case read its records.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from nb_oomhelper.diagnosis.diagnose import diagnose
from nb_oomhelper.diagnosis.request import made_certain
from nb_oomhelper.errors import StaleError, UsageError
from nb_oomhelper.failure.detection import Failure
from nb_oomhelper.holders.find import DEADLINE, loaded, search
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.introspection import traceback_of
from nb_oomhelper.knowledge.choosing import Choice, Match
from nb_oomhelper.loading.failed_call import find_call
from nb_oomhelper.loading.reload import Load, after_load, estimate_whole, study
from nb_oomhelper.memory.snapshot import read_measure, take_again, take_snapshot
from nb_oomhelper.memory.told import told_snapshot, unread
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import FailedCall, OomEvent
from nb_oomhelper.records.memory import MemorySnapshot, Span
from nb_oomhelper.records.remedy import FixPlan, Outcome
from nb_oomhelper.records.told import Told
from nb_oomhelper.remedies import history
from nb_oomhelper.remedies.cell_phase import tell_phase
from nb_oomhelper.remedies.notebook import UNREAD, Notebook, inspect_notebook, replaced_by
from nb_oomhelper.remedies.planning import plan, predict_effect
from nb_oomhelper.remedies.running import RunCode, ran_out, run, with_holders, with_run
from nb_oomhelper.remedies.still_there import STALE, Mark, marked_anew, only_wanted, without_stale
from nb_oomhelper.remedies.verdicts import judge
from nb_oomhelper.services import Services
from nb_oomhelper.source.repeats import Repeat

_Part = TypeVar("_Part")


@dataclass(slots=True)
class Case:
    """One out-of-memory error and what was done about it. Numbers and text only.

    Attributes:
        event, snapshot, diagnosis: What failed, memory at that moment, and our reading of both.
        choice: The entry that bears on it, and those that were passed over.
        plans: Fixes, best first.
        cell: Source of the cell that failed; "" where it is not known.
        repeats: What the cell has done that is done once more when it runs again.
        rates: For each fix, (n, m): the failed cell ran after n of m measured outcomes before this case.
        outcomes: What was run here, oldest first.
        recorded: The moment under which the history has the last outcome; None where it has not.
        earlier: What was run for the same error of the same cell before, oldest first.
        released_holders: The holders that these fixes let go: indexes of rows of the snapshot's holdings.
        marks: What the plans are about is known by these.
        told: Where a text tells of it, if it is read from one: it is of another process then, and nothing here is.
    """

    event: OomEvent
    snapshot: MemorySnapshot
    diagnosis: Diagnosis
    choice: Choice = field(default_factory=Choice)
    plans: tuple[FixPlan, ...] = ()
    cell: str = ""
    repeats: tuple[Repeat, ...] = ()
    rates: dict[str, tuple[int, int]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    recorded: float | None = None
    earlier: tuple[Outcome, ...] = ()
    released_holders: frozenset[int] = frozenset()
    marks: dict[str, Mark] = field(default_factory=dict)
    told: Told | None = None

    @property
    def match(self) -> Match | None:
        """The entry that bears on it, or None."""
        return self.choice.best


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
    if event.remote is not None:  # this machine's memory does not explain it; the notebook says how large its steps are
        notebook = services.attempt(lambda: _inspected(scope, cell), Notebook())
        return _written(event, unread(), None, notebook, services, cell)
    event = replace(event, call=services.attempt(lambda: _failed_call(failure), None))
    return _written(*_taken_down(event, scope, services, cell), services, cell, span)


def _taken_down(
    event: OomEvent, scope: Callable[[], Scope], services: Services, cell: str
) -> tuple[OomEvent, MemorySnapshot, Load | None, Notebook]:
    """What memory and the notebook say. The scope, which refers to the user's objects, lives no longer than this."""
    where = services.attempt(scope, Scope())
    notebook = services.attempt(lambda: inspect_notebook(where.variables, cell, where.inputs, where.frames), UNREAD)
    snapshot = services.attempt(lambda: _read(event, services, where), unread())
    phase = services.attempt(lambda: tell_phase(event, snapshot.holdings, notebook), event.phase)
    told = replace(event, phase=phase)  # all that follows is decided by it
    told = services.attempt(lambda: made_certain(told, snapshot), told)
    load = services.attempt(lambda: study(told, snapshot, notebook.names, partial(loaded, where)), None)
    return told, snapshot, load, notebook


def _inspected(scope: Callable[[], Scope], cell: str) -> Notebook:
    where = scope()
    return inspect_notebook(where.variables, cell, where.inputs)


def minimal_case(event: OomEvent, services: Services) -> Case:
    """Make a case of nothing but the error's own numbers, and a release: where there is no room for more, or no time.

    Args:
        event: What failed.
        services: What to work with.

    Returns:
        The case, with a plan that releases the failed cell.
    """
    return _written(event, unread(), None, Notebook(), services, "")


def told_case(told: Told, services: Services) -> Case:
    """Make a case of an error that a text tells of: of what the text says, whosever memory it was.

    Args:
        told: The error.
        services: What to work with; nothing of this process is read.
    """
    event = replace(told.event, remote=None)
    case = _written(event, told_snapshot(event), None, Notebook(), services, "")
    case.event, case.plans, case.told = told.event, (), told
    return case


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
    torch = "torch" in sys.modules or event.framework == "pytorch"
    diagnosis = services.attempt(lambda: diagnose(event, snapshot, span, torch=torch, failed=services.failed), bare)
    if load is not None:
        diagnosis = services.attempt(lambda: estimate_whole(diagnosis, load), diagnosis)
    elif diagnosis.made is not None:
        replaced = services.attempt(lambda: replaced_by(notebook, snapshot.holdings), 0)
        diagnosis = replace(diagnosis, replaced=replaced)
    case = Case(event=event, snapshot=snapshot, diagnosis=diagnosis, cell=cell, repeats=notebook.repeats)
    catalog = services.attempt(services.catalog, None)
    if catalog is not None:
        case.plans = services.attempt(
            lambda: plan(catalog, event, snapshot, diagnosis, load, notebook, failed=services.failed), ()
        )
        case.marks = only_wanted(notebook.marks, case.plans)
        mends = [one.fix for one in case.plans if one.verdict != "again"]
        case.choice = services.attempt(lambda: catalog.choose(event, diagnosis, cell, mends), Choice())
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
        StaleError: What it was made for is gone, or is not what it was: nothing was done.
    """
    case.plans = services.attempt(lambda: _current(case, scope()), case.plans)
    chosen = next((one for one in case.plans if one.number == number), None)
    if chosen is None:
        raise UsageError(f"there is no fix {number}; the last panel has {len(case.plans)}")
    if chosen.obstacle in STALE:
        raise StaleError(f"what fix {number} is about is gone, or is not what it was when the cell failed")
    if chosen.applicability == "display_only":
        raise UsageError(f"fix {number} is only shown: copy its code")
    event = case.event
    read = partial(read_measure, services.driver, event.backend, event.device, event.framework, blocks=True)
    bare = run(chosen, run_code, read, case.diagnosis, services.shell)
    bare = with_run(bare, chosen, case.cell)
    outcome = services.attempt(lambda: with_holders(bare, chosen, event, scope()), bare)  # it has run, whatever fails
    case.outcomes.append(outcome)
    if outcome.loaded:
        case.plans = services.attempt(lambda: tuple(after_load(one, chosen) for one in case.plans), case.plans)
    if outcome.error is None:
        case.released_holders |= chosen.released_holders
        case.plans = services.attempt(lambda: _predicted(case), case.plans)
    elif chosen.next_smaller is not None and ran_out(outcome.error):
        smaller = replace(chosen.next_smaller, number=chosen.number)
        case.plans = tuple(smaller if one is chosen else one for one in case.plans)
    case.plans = services.attempt(lambda: _current(case, scope(), chosen), case.plans)
    case.recorded = _record(outcome, case, services)
    return outcome


def _current(case: Case, where: Scope, ran: FixPlan | None = None) -> tuple[FixPlan, ...]:
    """The plans as they are now, once one has run if it has changed what some are about."""
    if ran is not None:
        case.marks = marked_anew(case.marks, ran, case.plans, where.variables)
    return without_stale(case.plans, case.outcomes, case.marks, where.variables)


def record_run(case: Case, services: Services, *, ran: bool) -> None:
    """Take down how the failed cell fared after the last fix: that is whether the fix has helped.

    Only the first run after a fix counts, and none where the fix has told by itself. Never raises.

    Args:
        case: Its last outcome gets it.
        services: What to work with.
        ran: Whether the cell, as it was or as changed by the fix, ran to its end. One that was stopped tells nothing.
    """
    if not case.outcomes or not case.outcomes[-1].open:
        return
    last = case.outcomes[-1] = replace(case.outcomes[-1], ran=ran)
    at = case.recorded
    if at is not None:
        _keep(services, lambda path: history.settle(path, at, last.fix, ran))


def _predicted(case: Case) -> tuple[FixPlan, ...]:
    """The plans with what each would still free, after those that have run."""
    plans = (predict_effect(one, case.snapshot, case.diagnosis, case.released_holders) for one in case.plans)
    return tuple(one if one.shortage is None else judge(one, one.shortage) for one in plans)


def read_again(case: Case, services: Services) -> MemorySnapshot:
    """Read what is used and free now.

    Args:
        case: Says on which device.
        services: What to work with.

    Returns:
        A snapshot without holders, and of a GPU without its processes and without the host.
    """
    event, before = case.event, case.snapshot
    return take_again(services.driver, before, backend=event.backend, device=event.device, framework=event.framework)


def rates(services: Services) -> dict[str, tuple[int, int]]:
    """Give for each fix (n, m): the failed cell ran after n of m measured outcomes of this person's."""
    path = services.history()
    return {} if path is None else history.measured_rates(path)


def _record(outcome: Outcome, case: Case, services: Services) -> float | None:
    entry = case.match.entry.code if case.match and case.match.relation == "match" else None
    return _keep(services, lambda path: history.append(path, outcome, case.event, entry))


def _keep(services: Services, write: Callable[[Path], _Part]) -> _Part | None:
    """Write to the history, if it is kept; one that cannot be used costs a line."""

    def kept() -> _Part | None:
        path = services.history()
        if path is None:
            return None
        written = write(path)
        if services.trace is None:  # the problem was the history's own
            services.problem = None
        return written

    return services.attempt(kept, None)
