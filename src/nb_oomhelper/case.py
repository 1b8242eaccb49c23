"""One out-of-memory error from the exception to the last outcome: the order of the story, and nothing else.

No text for people and no IPython in here: those who show a case read its records.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from nb_oomhelper import history
from nb_oomhelper.bare import class_name
from nb_oomhelper.catalog import Catalog, Match
from nb_oomhelper.diagnose import diagnose
from nb_oomhelper.errors import OomHelperError, UsageError
from nb_oomhelper.fixes import RunCode, foretell, plan, read_measure, run
from nb_oomhelper.frames import raised_with
from nb_oomhelper.frameworks import detect
from nb_oomhelper.memory import loaded, placed, still_held, take_snapshot
from nb_oomhelper.model import Diagnosis, FailedCall, FixPlan, MemorySnapshot, OomEvent, Outcome
from nb_oomhelper.notebook import look
from nb_oomhelper.nvml import Driver
from nb_oomhelper.reloads import Load, after_load, study, weigh_whole
from nb_oomhelper.retained import frames_of
from nb_oomhelper.rewrite import find_call
from nb_oomhelper.roots import Scope

_log = logging.getLogger(__name__)


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
        gone: The holders that these fixes let go: indexes of rows of the snapshot's holdings.
    """

    event: OomEvent
    snapshot: MemorySnapshot
    diagnosis: Diagnosis
    match: Match | None = None
    plans: tuple[FixPlan, ...] = ()
    cell: str = ""
    rates: dict[str, tuple[int, int]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    gone: frozenset[int] = frozenset()


@dataclass(slots=True)
class Desk:
    """What cases are worked on with.

    Attributes:
        driver: The door to NVML.
        catalog: Gives the knowledge; called late, because reading it opens files.
        history: Where outcomes are kept; None keeps none.
        problem: The last thing that could not be recorded, one line, or None.
    """

    driver: Driver
    catalog: Callable[[], Catalog]
    history: Callable[[], Path | None]
    problem: str | None = None


def open_case(error: BaseException, scope: Callable[[], Scope], desk: Desk, cell: str = "") -> Case | None:
    """Take an exception's facts down, if it is an out-of-memory error.

    Args:
        error: The exception; no reference to it or its frames is kept.
        scope: Where to look for holders; called only if the error is one.
        desk: What to work with.
        cell: Source of the cell that failed.
    """
    event = detect(error)
    if event is None:
        return None
    event = replace(event, call=_failed_call(error))
    where = scope()
    notebook = look(where.variables, cell)
    snapshot = take_snapshot(
        desk.driver, backend=event.backend, device=event.device, framework=event.framework, scope=where
    )
    load = _study(event, snapshot, where)
    del where  # it refers to the user's objects
    diagnosis = diagnose(event, snapshot, torch="torch" in sys.modules)
    if load is not None:
        diagnosis = weigh_whole(diagnosis, load)
    catalog = desk.catalog()
    return Case(
        event=event,
        snapshot=snapshot,
        diagnosis=diagnosis,
        match=next(iter(catalog.choose(event)), None),
        plans=() if event.remote else plan(catalog, event, snapshot, diagnosis, load, notebook),
        cell=cell,
        rates=rates(desk),
    )


def _study(event: OomEvent, snapshot: MemorySnapshot, where: Scope) -> Load | None:
    """The load that failed; None also where it could not be read: the panel must come all the same."""
    try:
        return study(event, snapshot, _overwritable(where), partial(loaded, where))
    except Exception:  # memory that is too full to read, say
        _log.debug("nothing of the load", exc_info=True)
        return None


def _overwritable(where: Scope) -> frozenset[str]:
    """The user's variables, but for modules and classes under their own names: to import those again loses nothing."""

    def is_itself(name: str, thing: object) -> bool:
        if type(thing) is ModuleType:
            return sys.modules.get(name) is thing
        return type(thing) is type and class_name(thing) == name

    return frozenset(name for name, thing in where.variables.items() if not is_itself(name, thing))


def _failed_call(error: BaseException) -> FailedCall | None:
    """The loader call; each traceback by itself, for a frame that wraps an error has another line in each."""
    calls = (find_call(frames_of([one])) for one, _ in reversed(raised_with(error)))
    return next((call for call in calls if call is not None), None)


def run_fix(case: Case, number: int, run_code: RunCode, scope: Callable[[], Scope], desk: Desk) -> Outcome:
    """Run one of a case's plans, measure it, find who keeps the rest, record it.

    Raises:
        UsageError: There is no such plan, or it is only to be shown.
    """
    chosen = next((one for one in case.plans if one.number == number), None)
    if chosen is None:
        raise UsageError(f"there is no fix {number}; the last panel has {len(case.plans)}")
    if chosen.applicability == "display_only":
        raise UsageError(f"fix {number} is only shown: copy its code")
    event = case.event
    read = partial(read_measure, desk.driver, event.backend, event.device, event.framework)
    outcome = run(chosen, run_code, read, case.diagnosis)
    where = scope()
    outcome = replace(outcome, held=still_held(where, event.backend, event.device))
    if outcome.loaded:
        device = chosen.placement.device if chosen.placement else event.device
        outcome = replace(outcome, placed=placed(where.variables.get(chosen.subject), device))
    del where  # it refers to the user's objects
    case.outcomes.append(outcome)
    if outcome.loaded:
        case.plans = tuple(after_load(one, chosen) for one in case.plans)
    if outcome.error is None:
        case.gone |= chosen.gone
        case.plans = tuple(foretell(one, case.snapshot, case.diagnosis, case.gone) for one in case.plans)
    _record(outcome, case, desk)
    return outcome


def read_again(case: Case, desk: Desk) -> MemorySnapshot:
    """Memory now, on the device that the case is about, without its holders."""
    event = case.event
    return take_snapshot(desk.driver, backend=event.backend, device=event.device, framework=event.framework)


def rates(desk: Desk) -> dict[str, tuple[int, int]]:
    """For each fix, (n, m): it helped in n of m measured outcomes of this person's."""
    path = desk.history()
    if path is None:
        return {}
    try:
        return history.measured_rates(path)
    except OomHelperError as error:
        desk.problem = str(error)
        return {}


def _record(outcome: Outcome, case: Case, desk: Desk) -> None:
    path = desk.history()
    if path is None:
        return
    entry = case.match.entry.code if case.match and case.match.relation == "match" else None
    try:
        history.append(path, outcome, case.event, entry)
        desk.problem = None
    except OomHelperError as error:
        desk.problem = str(error)
