"""From a remedy to the exact code for this notebook, with what it would free."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from string import Template

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.render import render
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading.reload import Load, plan_reload
from nb_oomhelper.records.diagnosis import Cause, Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies.notebook_settings import Notebook, find_targets, tell_phase
from nb_oomhelper.source.call_sites import bound_names, read_tree

# Subjects of `notebook_settings`.
CHANGED = ("cell", "number", "trainer", "data loader", "adam", "allocator", "preallocation")
_NO_NOTEBOOK = Notebook()


def plan(
    catalog: Catalog,
    event: OomEvent,
    snapshot: MemorySnapshot,
    diagnosis: Diagnosis,
    load: Load | None = None,
    notebook: Notebook = _NO_NOTEBOOK,
    *,
    failed: Callable[[Exception], None] = lambda _: None,
) -> tuple[FixPlan, ...]:
    """Make every fix that applies ready to run, best first.

    Best is: what makes the request fit, by the least loss; then what nobody can predict; then what would
    not be enough alone, by the bytes it frees. Of a load what makes its last request fit, and not the whole, counts as
    not predictable.

    Args:
        catalog: The knowledge.
        event, snapshot, diagnosis: What failed, memory then, and our reading of both.
        load: The load that failed, if one did.
        notebook: What the failed cell uses.
        failed: Is told the error of a fix that could not be made ready; the others go on.
    """
    event = replace(event, phase=tell_phase(event, snapshot.holdings, notebook))
    fixes = catalog.fixes_for(event, diagnosis.causes)
    loading = load is not None
    plans: list[tuple[tuple[int, ...], FixPlan]] = []
    for fix in fixes:
        try:
            made = [_unshadowed(one, fix, notebook) for one in _ready(fix, event, snapshot, diagnosis, load, notebook)]
            plans += [(_rank(one, fix, loading), one) for one in made]
        except Exception as error:  # a number too large to print, a text that parser and tokenizer read differently
            failed(error)
    plans.sort(key=lambda pair: pair[0])
    return tuple(replace(one, number=number) for number, (_, one) in enumerate(plans, 1))


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a fix is about: its name, the fields of its code, what it frees."""

    name: str
    fields: dict[str, str]
    released_holders: frozenset[int] = frozenset()
    frees: int | None = None


def _ready(
    fix: Fix, event: OomEvent, snapshot: MemorySnapshot, diagnosis: Diagnosis, load: Load | None, notebook: Notebook
) -> Iterable[FixPlan]:
    """The plans of one fix, by what it is about: the failed call, what the failed cell uses, or what is held."""
    if fix.subject == "call":
        found = plan_reload(fix, load) if load is not None else None
        return [] if found is None else [found]
    if fix.subject in CHANGED:
        return _changes(fix, event, snapshot, notebook)
    return _plans(fix, snapshot, diagnosis, notebook)


def _unshadowed(plan: FixPlan, fix: Fix, notebook: Notebook) -> FixPlan:
    """The plan, only shown where a name that the fix's own lines bind stands for something of the user's."""
    if plan.applicability == "display_only" or not names_of(fix) & notebook.names:
        return plan
    return replace(plan, applicability="display_only", obstacle="shadowed", before="")


def names_of(fix: Fix) -> frozenset[str]:
    """Names that a fix's own lines bind: not those of its subject, of the user's statement or of their cell."""
    code = Template(fix.code)
    tree = read_tree(code.safe_substitute(dict.fromkeys(code.get_identifiers(), "_") | {"block": "    pass"}))
    nodes = ast.walk(tree) if tree is not None else ()  # what is for a shell never runs here
    return frozenset(name for node in nodes for name in bound_names(node)) - {"_"}


def _changes(fix: Fix, event: OomEvent, snapshot: MemorySnapshot, notebook: Notebook) -> Iterator[FixPlan]:
    """One plan for each thing of the notebook that a fix can change: what it would free, nobody can tell."""
    for target in find_targets(fix, event, snapshot.holdings, notebook):
        try:
            code = render(fix, target.fields, installed_version)
        except OomHelperError:  # as in `_plans`; or a number that cannot be halved
            continue
        yield FixPlan(
            number=0,
            fix=fix.id,
            code=code,
            applicability="display_only" if target.obstacle else fix.applicability,
            subject=target.subject,
            released_holders=snapshot.holdings.of_failures()
            if target.reruns
            else frozenset(),  # its code releases it first
            releases=fix.releases,
            reruns=target.reruns,
            obstacle=target.obstacle,
        )


def _plans(fix: Fix, snapshot: MemorySnapshot, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[FixPlan]:
    """One plan a subject: a variable, a process; a single one for fixes without."""
    for subject in _subjects(fix, snapshot, diagnosis, notebook):
        try:
            code = render(fix, subject.fields, installed_version)
        except OomHelperError:  # a name that cannot stand in code, such as a key that is no identifier
            continue
        one = FixPlan(
            number=0,
            fix=fix.id,
            code=code,
            applicability=fix.applicability,
            predicted=subject.frees,
            subject=subject.name,
            released_holders=subject.released_holders,
            releases=fix.releases,
        )
        yield predict_effect(one, snapshot, diagnosis)


def predict_effect(
    plan: FixPlan, snapshot: MemorySnapshot, diagnosis: Diagnosis, before: frozenset[int] = frozenset()
) -> FixPlan:
    """The plan with what it would free, and whether that would do, once the holders `before` are gone."""
    if plan.loads or plan.reruns:  # it says itself whether it fits, once the failed cell is released
        return plan
    held, predicted = snapshot.holdings, plan.predicted
    earlier = held.freed_by(before)
    if plan.released_holders:
        predicted = held.freed_by(before | plan.released_holders) - earlier
    if predicted is None:  # what frees an unknown amount may also ask for less, as a load across devices does
        return replace(plan, predicted=None, fits=None, whole_cell_fits=None)
    back = earlier + predicted
    least, most = (0, back) if snapshot.mixed else (back, back)
    if before or plan.releases:  # the caches are emptied, too
        least, most = least + (snapshot.releasable or 0), most + (snapshot.releasable_at_most or 0)
    fits, again = (_fits(least, most, diagnosis, needed) for needed in (diagnosis.requested, diagnosis.rerun))
    return replace(plan, predicted=predicted, fits=fits, whole_cell_fits=again)


def _subjects(fix: Fix, snapshot: MemorySnapshot, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[_Subject]:
    held = snapshot.holdings
    failed = held.of_failures()  # every release lets go of it, whatever else it is about
    if fix.subject == "process":
        for cause in _of(diagnosis, "other_process"):
            if _can_be_stopped(cause, snapshot, diagnosis):
                yield _Subject(str(cause.pid), {"pid": str(cause.pid)}, frees=cause.size)
    elif fix.subject == "none":
        if "output_history" in fix.causes and notebook.reads_results:
            return
        gone = failed | (held.of_kind("output_history") if "output_history" in fix.causes else frozenset())
        known = held.complete and held.everywhere and held.total and not gone and not _of(diagnosis, "unnamed")
        yield _Subject("", {}, gone, frees=0 if known else None)
    else:
        yield from _variables(fix, held, diagnosis, notebook)


def _can_be_stopped(cause: Cause, snapshot: MemorySnapshot, diagnosis: Diagnosis) -> bool:
    """Whether a process can be seen from here, and what is told of it can be.

    A driver may not know processes one by one: in WSL it calls all of them 1, with more bytes than there are.
    """
    capacity = snapshot.device.capacity if snapshot.device else diagnosis.capacity
    possible = cause.size is None or capacity is None or cause.size <= capacity
    return possible and cause.process is not None and cause.pid is not None and cause.pid > 1


def _variables(fix: Fix, held: Holdings, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[_Subject]:
    """The user's variables that a fix is about."""
    failed = held.of_failures()
    if fix.subject == "variable":
        for cause in _of(diagnosis, "variable"):
            name = cause.names[0]
            # To delete one of several gives nothing back, and without what it reads the cell would fail.
            if len(cause.names) == 1 and name not in notebook.needed:
                yield _Subject(name, {"name": name}, failed | held.named(name))
    elif fix.causes:  # a fix of a cause takes away what the cause keeps
        for cause in diagnosis.causes:
            if cause.kind in fix.causes and cause.role == fix.subject:
                yield _Subject(cause.names[0], {"name": cause.names[0]}, frees=cause.size)
    else:  # by what it is, not by what it keeps alone: an optimizer keeps a model's parameters, too
        for row in held.rows:
            if row.kind == "variable" and row.role == fix.subject:
                yield _Subject(row.name, {"name": row.name})


def _of(diagnosis: Diagnosis, kind: str) -> list[Cause]:
    return [cause for cause in diagnosis.causes if cause.kind == kind]


def _fits(least: int, most: int, diagnosis: Diagnosis, needed: int | None) -> bool | None:
    """Whether so many bytes fit once at least and at most these come back; None where that decides nothing."""
    if any(cause.kind == "too_large" for cause in diagnosis.causes):
        return False
    if diagnosis.free is None or needed is None:
        return None
    if diagnosis.free + least >= needed + diagnosis.printed:
        return True
    return None if diagnosis.free + most >= needed - diagnosis.printed else False


def _rank(plan: FixPlan, fix: Fix, loading: bool) -> tuple[int, int, int, int, int]:
    fits = {True: 0, None: 1, False: 2}[plan.fits]
    if (
        loading and plan.fits and plan.whole_cell_fits is False
    ):  # the request is the smallest part of a load that does not fit
        fits = 1
    loss = {"safe": 0, "unsafe": 1, "display_only": 2}[plan.applicability]
    # of what loses something, a load comes first: it does what the cell was there for
    does_it = plan.loads and plan.applicability == "unsafe"
    return fits, loss, -1 if does_it else 0, -(plan.predicted or 0), fix.order
