"""What the matching entry advises, weighed for the case at hand: by its fixes' verdicts, and by what was measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from nb_oomhelper.knowledge.entry import DeadEndClaim, Entry, Workaround
from nb_oomhelper.records.diagnosis import DeadEndKind, Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.records.memory import MemorySnapshot
from nb_oomhelper.records.remedy import FixPlan

Standing = Literal["runs", "may", "by_hand", "not_here", "again"]  # best first
Holds = Literal["here", "unchecked", "not_here"]  # the surest first

_STANDINGS: tuple[Standing, ...] = ("runs", "may", "by_hand", "not_here", "again")
_HOLDS: tuple[Holds, ...] = ("here", "unchecked", "not_here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """A workaround of an entry, for one case.

    Attributes:
        number: Its place in the entry, from 1.
        row: What the entry says.
        standing: What came of its fix: the verdict of its best plan; "by_hand" where it has none, and "not_here" where
            that is none for this case.
        plan: That plan, or None.
    """

    number: int
    row: Workaround
    standing: Standing
    plan: FixPlan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A dead end of an entry, for one case.

    Attributes:
        number: Its place in the entry, from 1.
        row: What the entry says.
        holds: Whether it is one "here", as the diagnosis has found; "not_here" where what makes it one is known not to
            hold; "unchecked" where nobody knows.
        size: For one that is none here: the bytes that tell so; None where there are none.
    """

    number: int
    row: DeadEndClaim
    holds: Holds
    size: int | None


def rank_workarounds(entry: Entry, plans: Sequence[FixPlan]) -> tuple[Advised, ...]:
    """Order an entry's workarounds by what they promise here; those that promise the same as the entry has them.

    Args:
        entry: The one that matches.
        plans: The case's.
    """
    rows = [_advised(number, row, plans) for number, row in enumerate(entry.workarounds, 1)]
    return tuple(sorted(rows, key=lambda one: _STANDINGS.index(one.standing)))


def _advised(number: int, row: Workaround, plans: Sequence[FixPlan]) -> Advised:
    made = [plan for plan in plans if plan.fix == row.fix]
    best = min(made, key=lambda plan: _STANDINGS.index(plan.verdict), default=None)
    standing: Standing = best.verdict if best else "by_hand" if row.fix is None else "not_here"
    return Advised(number=number, row=row, standing=standing, plan=best)


def weigh_dead_ends(
    entry: Entry, event: OomEvent, snapshot: MemorySnapshot, diagnosis: Diagnosis
) -> tuple[Warned, ...]:
    """Order an entry's dead ends by whether they are some here, those first of which that is sure.

    Args:
        entry: The one that matches.
        event, snapshot, diagnosis: The case.
    """
    found = {end.kind for end in diagnosis.dead_ends}
    counter = {} if event.remote is not None else dict(_not_here(event, snapshot, diagnosis))
    rows = [_warned(number, row, found, counter) for number, row in enumerate(entry.dead_ends, 1)]
    return tuple(sorted(rows, key=lambda one: _HOLDS.index(one.holds)))


def _warned(
    number: int, row: DeadEndClaim, found: Collection[str], counter: Mapping[DeadEndKind, int | None]
) -> Warned:
    holds: Holds = "here" if row.check in found else "not_here" if row.check in counter else "unchecked"
    size = counter[row.check] if holds == "not_here" and row.check else None
    return Warned(number=number, row=row, holds=holds, size=size)


def _not_here(
    event: OomEvent, snapshot: MemorySnapshot, diagnosis: Diagnosis
) -> Iterable[tuple[DeadEndKind, int | None]]:
    """What may well help here, though it does not elsewhere, each with the bytes that tell so."""
    asked: dict[DeadEndKind, Callable[[], tuple[bool, int | None]]] = {
        "empty_cache": partial(_cache_helps, event, snapshot, diagnosis),
        "gc_collect": partial(_cycles_help, snapshot, diagnosis),
        "smaller_batch": partial(_half_fits, event, diagnosis),
        "expandable_segments": lambda: (any(one.kind == "fragmentation" for one in diagnosis.causes), None),
        "checkpointing": lambda: (event.phase == "train", None),
        "no_grad": lambda: (event.phase == "infer", None),
    }
    for kind, ask in asked.items():
        helps, size = ask()
        if helps:
            yield kind, size


def _cache_helps(event: OomEvent, snapshot: MemorySnapshot, diagnosis: Diagnosis) -> tuple[bool, int | None]:
    """Another library that needs room gets it from PyTorch's cache."""
    cached = snapshot.allocator.releasable if snapshot.allocator else None
    if event.backend == "host" or event.framework != "pytorch" or not cached:
        return False, None
    return diagnosis.short is None or cached >= diagnosis.short, cached


def _cycles_help(snapshot: MemorySnapshot, diagnosis: Diagnosis) -> tuple[bool, int | None]:
    cycles = snapshot.holdings.freed_by(snapshot.holdings.of_kind("unreachable"))
    return bool(cycles and diagnosis.short) and cycles >= (diagnosis.short or 0), cycles


def _half_fits(event: OomEvent, diagnosis: Diagnosis) -> tuple[bool, int | None]:
    requested, free = diagnosis.requested, diagnosis.free
    if event.phase not in ("train", "infer") or not requested or free is None:
        return False, None
    return requested // 2 <= free, requested // 2
