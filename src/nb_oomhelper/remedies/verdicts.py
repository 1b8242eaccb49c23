"""Whether the failed cell runs to its end after a fix, and the order of the fixes that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, get_args

from nb_oomhelper.address_space import put_by
from nb_oomhelper.memory.room import host_free
from nb_oomhelper.records.diagnosis import Diagnosis
from nb_oomhelper.records.memory import HostMemory, MemorySnapshot
from nb_oomhelper.records.remedy import FixPlan, Outcome, Shortage, Verdict
from nb_oomhelper.units import NOISE

Loss = Literal[0, 1, 2, 3]
_ORDER = {verdict: place for place, verdict in enumerate(get_args(Verdict))}
_SMALL_STEPS = 8  # requests like the failed one, from which on a cell makes many, and nobody knows how many are to come
_SPARE = 0.05  # of what the cell needs at least, so much more must be there before it is expected to run
_TRIFLE, _TRIFLE_BYTES = 0.01, 32 << 20  # of what is free anyway, and at most
_TAKES: Loss = 2
_FORESEEN: dict[str, Verdict] = {"fits": "runs", "tight": "may", "does_not": "again"}


def find_shortage(diagnosis: Diagnosis, snapshot: MemorySnapshot, *, grows: bool) -> Shortage:
    """Put together what decides it.

    Args:
        diagnosis: What was asked for, what was free, what the cell needs.
        snapshot: Memory then.
        grows: Whether the cell's code keeps more with every step.
    """
    free, held = diagnosis.free, snapshot.holdings
    room = None if free is None else free + (snapshot.releasable or 0) + held.freed_by(held.of_failures())
    needs = with_put_by(diagnosis, snapshot.host, (room or 0) - (free or 0))
    return Shortage(
        needs=needs,
        put_by=(needs or 0) - (diagnosis.rerun or 0),
        measured=diagnosis.made is not None,
        room=room,
        hidden=diagnosis.hidden + diagnosis.replaced,
        gaps=diagnosis.gaps,
        grows=grows,
        impossible=any(cause.kind == "too_large" for cause in diagnosis.causes),
        certain=diagnosis.certain,
        host=host_free(snapshot.host),
    )


def with_more_to_come(shortage: Shortage, diagnosis: Diagnosis, *, midst: bool) -> Shortage:
    """Add what the cell may need after the point at which it failed, where it was plainly in the midst of its work.

    Args:
        shortage: As `find_shortage` gives it.
        diagnosis: What was asked for, and what the cell had made.
        midst: It was on its way to a backward pass, which needs gradients of what was made, or within a comprehension.
    """
    made = diagnosis.made or 0
    steps = diagnosis.requested is not None and diagnosis.requested * _SMALL_STEPS <= made
    more = max(made, diagnosis.requested or 0)
    return replace(shortage, hidden=shortage.hidden + more) if midst or steps else shortage


def with_put_by(diagnosis: Diagnosis, host: HostMemory, back: int) -> int | None:
    """Give what the cell needs, and what is put by for an error before it runs again, where address space is limited.

    Args:
        diagnosis: What the cell needs, and what was free.
        host: The limits.
        back: Bytes that come back before.
    """
    limited = host.puts_by and (host.address_space_limit is not None or host.data_limit is not None)
    if diagnosis.rerun is None or diagnosis.free is None or not limited:
        return diagnosis.rerun
    return diagnosis.rerun + put_by(diagnosis.free + back)


def judge(plan: FixPlan, shortage: Shortage) -> FixPlan:
    """Say whether the cell runs after a plan.

    Args:
        plan: With the bytes that it frees, or whether the load that it is fits.
        shortage: What decides it.
    """
    if plan.tried:
        return replace(plan, verdict="again", shortage=shortage)
    if plan.forecast is not None and plan.forecast.verdict != "unknown":
        return replace(plan, verdict=_FORESEEN[plan.forecast.verdict], shortage=shortage)
    if shortage.certain:
        return replace(plan, verdict=_verdict(plan, shortage), shortage=shortage)
    doubtful = replace(plan, shortage=shortage, fits=plan.fits and None, whole_cell_fits=plan.whole_cell_fits and None)
    verdict = _verdict(doubtful, shortage)
    return replace(doubtful, verdict="may" if verdict == "runs" else verdict)


def _verdict(plan: FixPlan, shortage: Shortage) -> Verdict:
    if plan.loads:
        return {True: "runs", None: "may", False: "again"}[plan.fits]  # type: ignore[return-value]
    if plan.reruns:
        return _of_changed_cell(plan, shortage)
    if shortage.impossible or shortage.grows:
        return "again"
    if plan.whole_cell_fits is not True:
        return "again" if plan.whole_cell_fits is False else "may"
    return "runs" if shortage.measured and _is_plenty(plan, shortage) else "may"


def _is_plenty(plan: FixPlan, shortage: Shortage) -> bool:
    """Whether there is room also for what the cell may have made and given back unseen."""
    return plan.room is None or shortage.needs is None or plan.room >= shortage.needs + shortage.hidden


def _of_changed_cell(plan: FixPlan, shortage: Shortage) -> Verdict:
    """A cell that is run in another form needs less by what its mistake kept; half at most where nobody knows."""
    if shortage.impossible and _is_out_of_reach(plan, shortage):
        return "again"
    if plan.explains is None or shortage.needs is None or shortage.room is None:
        return "may"
    left = max(shortage.put_by, shortage.needs - plan.explains)
    left += shortage.gaps * left // max(1, shortage.needs)  # what makes fewer tensors leaves fewer gaps
    room = shortage.room + plan.forgets + (0 if plan.in_cell else plan.explains)
    return "runs" if room >= left * (1 + _SPARE) and not plan.partly else "may"


def _is_enough_so_far(plan: FixPlan) -> bool:
    """Whether a cell that is run in another form gets as far as it came, though more is to come."""
    shortage = plan.shortage
    if not plan.partly or not plan.reruns or not plan.in_cell or plan.explains is None or shortage is None:
        return False
    return _of_changed_cell(replace(plan, partly=False), shortage) == "runs"


def _is_out_of_reach(plan: FixPlan, shortage: Shortage) -> bool:
    if shortage.needs is None or shortage.room is None:
        return False
    return shortage.needs - (plan.explains or shortage.needs // 2) > shortage.room + plan.forgets


def loss_of(plan: FixPlan) -> Loss:
    """How much a plan costs: nothing, the cell's own results, something of the user's, or more than a click."""
    if plan.applicability == "display_only":
        return 3
    if plan.applicability == "safe":
        return 0
    return 1 if (plan.reruns and not plan.partial) or plan.loads else 2


def rank(plan: FixPlan, order: int) -> tuple[int, ...]:
    """The place of a plan: whether the cell runs, what is lost, how much else it costs, how much it frees.

    Args:
        plan: With its verdict.
        order: The place of its fix among those that do the same.
    """
    # by what is left, though it was not measured, or more is to come
    likely = plan.verdict == "may" and (plan.whole_cell_fits is True or _is_enough_so_far(plan))
    grows_on = plan.partly and plan.shortage is not None and plan.shortage.grows  # something else does, with every step
    names = plan.subject.count(", ") if plan.verdict == "runs" else 0  # no more is deleted than must be
    blind = plan.releases and not plan.reruns and plan.predicted is None  # whether it gives anything, nobody knows
    costs = (loss_of(plan), order, names, -(plan.predicted or 0))
    shown = plan.applicability == "display_only" and plan.verdict == "may" and not plan.loads  # a click tells more
    last = 2 * plan.partial + plan.slow  # not what the cell was to do, or not where
    verdict = "may" if last and plan.verdict == "runs" else plan.verdict
    return _ORDER[verdict], shown, plan.guess, blind, last, grows_on, not likely, *costs


def demote(plans: Sequence[FixPlan], earlier: Collection[Outcome]) -> tuple[FixPlan, ...]:
    """Put last what was run for an earlier error of the same cell: it was not enough.

    Args:
        plans: In their order.
        earlier: What was run since the first of these errors.

    Returns:
        The plans, numbered anew.
    """
    done = {(one.fix, one.subject) for one in earlier}
    marked = [replace(one, tried=True, verdict="again") if (one.fix, one.subject) in done else one for one in plans]
    marked.sort(key=lambda one: (_ORDER[one.verdict], one.tried))
    return tuple(replace(one, number=number) for number, one in enumerate(marked, 1))


def without_idle(plans: Collection[FixPlan]) -> list[FixPlan]:
    """Leave out what gives nothing back and would not make the cell run, where there is anything else to do.

    What takes something of the user's for next to nothing is left out in any case, where nobody knows what is missing.

    Args:
        plans: With their verdicts.
    """
    worth = [one for one in plans if not _is_trifling(one)]
    useful = [one for one in worth if one.verdict != "again" or not gives_nothing(one)]
    return useful or worth


def gives_nothing(plan: FixPlan) -> bool:
    """Whether it is known that a plan gives nothing back; one that changes the cell, or is a load, is not for that."""
    return plan.predicted is not None and plan.predicted < NOISE and not plan.reruns and not plan.loads


def _is_trifling(plan: FixPlan) -> bool:
    """Whether a plan takes something of the user's for next to nothing, and nobody knows whether that is enough."""
    told = plan.fits is not None or plan.whole_cell_fits is not None or plan.verdict != "may"
    if told or plan.predicted is None or plan.room is None or loss_of(plan) != _TAKES:
        return False
    return plan.predicted < min(_TRIFLE_BYTES, _TRIFLE * (plan.room - plan.predicted))
