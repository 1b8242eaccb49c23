"""From a remedy to the exact code for this notebook, with what it would free."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from nb_oomhelper.errors import OomHelperError
from nb_oomhelper.knowledge.catalog import Catalog
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.knowledge.render import render
from nb_oomhelper.knowledge.versions import installed_version
from nb_oomhelper.loading.reload import Load, plan_reload
from nb_oomhelper.memory.coming_back import coming_back
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.remedy import FixPlan
from nb_oomhelper.remedies import fix_targets
from nb_oomhelper.remedies.code_mistakes import leads_to_training
from nb_oomhelper.remedies.fitting import Fit, find_fit
from nb_oomhelper.remedies.mending import find_mends
from nb_oomhelper.remedies.notebook import Notebook
from nb_oomhelper.remedies.on_the_way import learns
from nb_oomhelper.remedies.subjects import find_subjects
from nb_oomhelper.remedies.verdicts import (
    find_shortage,
    judge,
    rank,
    with_more_to_come,
    with_put_by,
    without_idle,
)
from nb_oomhelper.source.collecting import comprehends_at, root_of
from nb_oomhelper.units import NOISE

_FURTHER = 3  # smaller sizes beyond the first that are made ready, each for the case that the one before ran out
_LETS_GO = ("delete-variable", "empty-container")  # of what names of the user's keep
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

    Best is: after what the cell is expected to run, then after what it may; of these by the least loss, then by the
    cost in speed or accuracy, then by the bytes.

    Args:
        catalog: The knowledge.
        event, snapshot, diagnosis: What failed, with the phase told; memory then; and our reading of both.
        load: The load that failed, if one did.
        notebook: What the failed cell uses.
        failed: Is told the error of a fix that could not be made ready; the others go on.

    Returns:
        The plans in the order of the panel, numbered from 1.
    """
    shortage = find_shortage(diagnosis, snapshot, grows=False)
    if notebook.written is not None:
        mends = find_mends(notebook.written, event, snapshot.holdings, shortage)
        forward = event.framework == "pytorch" and event.stage != "backward"
        forward = forward and leads_to_training(notebook.written, notebook.written.cell.tree)
        comprehends = comprehends_at(notebook.written.cell.tree, notebook.written.line_in_cell())
        shortage = with_more_to_come(shortage, diagnosis, midst=forward or comprehends)
        notebook = replace(notebook, mends=tuple(mends))
        shortage = replace(shortage, grows=any(mend.grows for mend in mends))
    diagnosis = replace(diagnosis, hidden=shortage.hidden)
    fixes = catalog.fixes_for(_with_phase(event, notebook), diagnosis.causes)
    room = None if shortage.room is None else shortage.room + diagnosis.replaced  # free again when its steps begin
    fit = find_fit(event, snapshot.holdings, replace(shortage, room=room), notebook)
    plans: list[tuple[tuple[int, ...], FixPlan]] = []
    for fix in fixes:
        try:
            ready = _ready(fix, event, snapshot, diagnosis, load, notebook, fit)
            made = [_trusted(_unshadowed(_without_remade(one, notebook), notebook), fix) for one in ready]
            plans += [(rank(one, fix.order), one) for one in (judge(one, shortage) for one in made)]
        except Exception as error:  # a number too large to print, a text that parser and tokenizer read differently
            failed(error)
    plans.sort(key=lambda pair: pair[0])
    kept = without_idle([one for _, one in plans])
    return tuple(replace(one, number=number) for number, one in enumerate(kept, 1))


def _with_phase(event: OomEvent, notebook: Notebook) -> OomEvent:
    """The event; of the phase that nobody knows, no training, where what was computed has no graph."""
    written = notebook.written
    known = event.phase != "unknown" or written is None or written.autograd is not False or learns(written)
    return event if known else replace(event, phase="infer")


def _ready(
    fix: Fix,
    event: OomEvent,
    snapshot: MemorySnapshot,
    diagnosis: Diagnosis,
    load: Load | None,
    notebook: Notebook,
    fit: Fit | None,
) -> Iterable[FixPlan]:
    """The plans of one fix, by what it is about: the failed call, what the failed cell uses, or what is held."""
    if "host" in fix.options and any(mend.kind == "map_location" for mend in notebook.mends):
        return []  # the whole cell is run with it
    if fix.subject == "call":
        found = plan_reload(fix, load) if load is not None else None
        if found is None or load is None:
            return []
        needs, room = diagnosis.rerun, load.room.free  # of what no file tells, the bytes that were there by then
        moves = load.row.in_place and "as_asked" in fix.options and found.fits is None  # as a whole, to one device
        return [replace(found, fits=False) if moves and needs and room is not None and needs > room else found]
    if fix.subject in fix_targets.SUBJECTS:
        return _with_next(fix, event, snapshot, diagnosis, notebook, fit)
    return _plans(fix, snapshot, diagnosis, notebook)


def _without_remade(plan: FixPlan, notebook: Notebook) -> FixPlan:
    """The plan, of no use to the cell where all that it lets go of is made anew by the cell itself."""
    if plan.fix not in _LETS_GO or notebook.written is None:
        return plan
    names = {root_of(name) for name in plan.subject.split(", ")}
    return replace(plan, whole_cell_fits=False) if names <= notebook.written.made_names() else plan


def _unshadowed(plan: FixPlan, notebook: Notebook) -> FixPlan:
    """The plan, only shown where a name that its own lines bind stands for something of the user's."""
    if plan.applicability == "display_only" or not plan.binds & notebook.names:
        return plan
    return replace(plan, applicability="display_only", obstacle="shadowed", before="")


def _trusted(plan: FixPlan, fix: Fix) -> FixPlan:
    """The plan, only shown where what it runs is of a file from outside that nobody has said they trust."""
    return plan if fix.trusted else replace(plan, applicability="display_only", obstacle="untrusted", before="")


def _with_next(
    fix: Fix,
    event: OomEvent,
    snapshot: MemorySnapshot,
    diagnosis: Diagnosis,
    notebook: Notebook,
    fit: Fit | None,
    further: int = _FURTHER,
) -> Iterable[FixPlan]:
    """The plans of a fix; each that makes a size smaller has the one with the next smaller size with it."""
    plans = list(_changes(fix, event, snapshot, diagnosis, notebook, fit))
    if fit is None or not further or not any(one.steps for one in plans):
        return plans
    smaller = _with_next(fix, event, snapshot, diagnosis, notebook, fit.smaller(), further - 1)
    pairs = zip(plans, smaller, strict=False)
    return [replace(one, next_smaller=other) if one.code != other.code else one for one, other in pairs]


def _changes(
    fix: Fix,
    event: OomEvent,
    snapshot: MemorySnapshot,
    diagnosis: Diagnosis,
    notebook: Notebook,
    fit: Fit | None,
) -> Iterator[FixPlan]:
    """One plan for each thing of the notebook that a fix can change: what it would free, nobody can tell."""
    for target in fix_targets.find_targets(fix, event, snapshot.holdings, notebook, fit):
        try:
            code = render(fix, target.fields, installed_version)
        except OomHelperError:  # as in `_plans`; or a number that cannot be halved
            continue
        one = FixPlan(
            number=0,
            fix=fix.id,
            code=code,
            applicability="display_only" if target.obstacle else fix.applicability,
            subject=target.subject,
            targets=target.targets,
            # a cell that runs again is released first
            released_holders=snapshot.holdings.of_failures() if target.reruns else frozenset(),
            releases=fix.does.releases,
            binds=fix.does.binds,
            reruns=target.reruns,
            obstacle=target.obstacle,
            guess=fix.guess,
            partial=fix.partial,
            slow=fix.slow,
            predicted=target.frees,
            foreseeable=_is_foreseeable(target, event),
            **_mended(target),
        )
        yield one if target.frees is None else predict_effect(one, snapshot, diagnosis)


def _is_foreseeable(target: fix_targets.FixTarget, event: OomEvent) -> bool:
    """Whether a forecast can be asked for: of the cell with a smaller size, where that is of PyTorch, and forks are."""
    here = event.remote is None and event.backend in ("cuda", "host") and hasattr(os, "fork")
    return here and target.size is not None and target.reruns and event.framework == "pytorch"


def resized(
    plan: FixPlan,
    share: float,
    catalog: Catalog,
    event: OomEvent,
    snapshot: MemorySnapshot,
    diagnosis: Diagnosis,
    notebook: Notebook,
) -> FixPlan | None:
    """Make a plan anew with another size, or None where it cannot be made.

    Args:
        plan: It makes a size smaller.
        share: The part of the old size that is wanted; the new one is the next below it that can be written.
        catalog, event, snapshot, diagnosis, notebook: As for `plan`.
    """
    trains = event.phase == "train" or (event.phase == "unknown" and bool(notebook.trainers))
    fix, fit = catalog.fix(plan.fix), Fit(share=share, trains=trains)
    for one in _with_next(fix, event, snapshot, diagnosis, notebook, fit):
        if (one.targets, one.reruns, one.changed_cell) == (plan.targets, plan.reruns, plan.changed_cell):
            trusted = _trusted(_unshadowed(one, notebook), fix)
            return replace(trusted, number=plan.number, shortage=plan.shortage)
    return None


def _mended(target: fix_targets.FixTarget) -> dict[str, Any]:
    mend, size = target.mend, target.size
    if size is not None:
        told = {"before": size.before, "after": size.after, "changed_cell": size.cell, "steps": size.steps}
        return told | {"ratio": size.ratio, "explains": target.explains, "in_cell": True}
    if mend is None:
        return {"explains": target.explains, "in_cell": True}
    return {
        "explains": mend.explains,
        "in_cell": mend.in_cell,
        "partly": mend.partly,
        "forgets": mend.forgets,
        "gone": mend.gone,
        "before": mend.before,
        "after": mend.after,
        "changed_cell": mend.cell,
        "changed_line": mend.line,
    }


def _plans(fix: Fix, snapshot: MemorySnapshot, diagnosis: Diagnosis, notebook: Notebook) -> Iterator[FixPlan]:
    """One plan a subject: a variable, a process; a single one for fixes without."""
    for subject in find_subjects(fix, snapshot, diagnosis, notebook):
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
            targets=tuple(subject.name.split(", ")) if subject.name and fix.subject != "process" else (),
            released_holders=subject.released_holders,
            outside=fix.subject == "process",
            releases=fix.does.releases,
            binds=fix.does.binds,
        )
        yield predict_effect(one, snapshot, diagnosis)


def predict_effect(
    plan: FixPlan, snapshot: MemorySnapshot, diagnosis: Diagnosis, before: frozenset[int] = frozenset()
) -> FixPlan:
    """Say what a plan would free, and whether that would do.

    Args:
        plan: The plan.
        snapshot: Memory when the cell failed, with its holders.
        diagnosis: What was requested, and what was free then.
        before: Holders that other fixes have let go since: indexes of rows of the snapshot's holdings.

    Returns:
        The plan with these bytes; a load, or one that runs the cell again, is given back as it is.
    """
    if plan.loads or plan.reruns:  # it says itself whether it fits, once the failed cell is released
        return plan
    if plan.predicted is None and not plan.released_holders:
        # what frees an unknown amount may also ask for less, as a load across devices does
        return replace(plan, predicted=None, fits=None, whole_cell_fits=None, room=None)
    emptied = bool(before or plan.releases)
    frees = plan.predicted or 0
    back = coming_back(snapshot, before, plan.released_holders, frees, emptied=emptied, outside=plan.outside)
    fits, requested = None, diagnosis.requested
    if requested is not None:
        fits = _fits(back.least, back.most, diagnosis, back.asked(requested))
        fits = back.served(requested, diagnosis.printed, fits) if diagnosis.certain else fits
    # When it comes back, nobody can tell: what is new may be made before.
    in_all = max(back.least, back.in_sum - back.earlier_gaps) + diagnosis.replaced
    needed = with_put_by(diagnosis, snapshot.host, back.least)
    whole = _fits(back.least, in_all, diagnosis, None if needed is None else needed + diagnosis.gaps)
    if back.most < NOISE:  # the same cell, with the room that it has failed in; what it gave back it takes again
        whole = False
    room = None if diagnosis.free is None else diagnosis.free + back.least + diagnosis.replaced
    return replace(plan, predicted=back.freed, fits=fits, whole_cell_fits=whole, room=room)


def _fits(least: int, most: int, diagnosis: Diagnosis, needed: int | None) -> bool | None:
    """Whether so many bytes fit once at least and at most these come back; None where that decides nothing."""
    if any(cause.kind == "too_large" for cause in diagnosis.causes):
        return False
    if diagnosis.free is None or needed is None:
        return None
    if diagnosis.free + least >= needed + diagnosis.printed:
        return True if diagnosis.certain else None
    return None if diagnosis.free + most >= needed - diagnosis.printed else False
