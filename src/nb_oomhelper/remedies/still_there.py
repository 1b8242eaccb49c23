"""Whether what a fix was made for is still what it was: a click may come long after the error.

The user may have deleted it meanwhile, or given its name to something else, which a fix must not touch. Marks keep
nothing alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType, NoneType
from typing import Literal

from nb_oomhelper.introspection import class_name
from nb_oomhelper.records.remedy import FixPlan, Outcome
from nb_oomhelper.remedies.size_settings import find_below, whole_number
from nb_oomhelper.source.collecting import root_of

STALE = ("gone", "changed")  # obstacles of what no longer applies


@dataclass(frozen=True, slots=True)
class Mark:
    """What an object is known by.

    Attributes:
        kind: Name of its class.
        number: The value of a whole number, the hash of a function's code and plain defaults, the address
            of anything else.
        alive: Refers weakly to it, since an address is given away once it is free; None where its class allows none.
    """

    kind: str
    number: int
    alive: weakref.ref[object] | None = None

    def is_same(self, other: Mark) -> bool:
        """Whether it is of the object of which another one is now."""
        gone = self.alive is not None and self.alive() is None
        return not gone and (self.kind, self.number) == (other.kind, other.number)


def marks_of(variables: Mapping[str, object], numbers: Mapping[str, int] | None = None) -> dict[str, Mark]:
    """Mark what a notebook has now.

    Args:
        variables: The user's names and their objects.
        numbers: Whole numbers by path, 'config["batch_size"]'; None: those below the variables are looked for.

    Returns:
        A mark for each name, and for each of these paths.
    """
    found = find_below(variables, variables, whole_number) if numbers is None else numbers
    return {name: _mark(thing) for name, thing in (*variables.items(), *found.items())}


def _mark(thing: object) -> Mark:
    kind = class_name(type(thing))
    if type(thing) is int:
        return Mark(kind, thing)
    if type(thing) is FunctionType:  # defined once more as it was, it is the same
        return Mark(kind, hash((thing.__code__, *map(_default, thing.__defaults__ or ()), *_by_name(thing))))
    try:
        return Mark(kind, id(thing), weakref.ref(thing))
    except TypeError:
        return Mark(kind, id(thing))


def _by_name(function: FunctionType) -> list[object]:
    return [(name, _default(value)) for name, value in (function.__kwdefaults__ or {}).items()]


def _default(value: object) -> object:
    """A default as far as it can be compared: of anything but a plain value its class."""
    plain = any(type(value) is kind for kind in (int, float, bool, str, NoneType))
    return (class_name(type(value)), value if plain else None)


def only_wanted(marks: Mapping[str, Mark], plans: Iterable[FixPlan]) -> dict[str, Mark]:
    """Give the marks of what some plans change, or let go of."""
    names = {name for plan in plans for path in plan.targets for name in (path, root_of(path))}
    return {name: marks[name] for name in names if name in marks}


def marked_anew(
    marks: Mapping[str, Mark], ran: FixPlan, plans: Iterable[FixPlan], variables: Mapping[str, object]
) -> dict[str, Mark]:
    """Give the marks after a plan has run: what it has changed itself is no reason against the others.

    Args:
        marks: Those until then.
        ran: The plan; where it has run the cell, that may have bound any name anew.
        plans: All of them.
        variables: The user's names and their objects.
    """
    changed = list(plans) if ran.reruns else [ran]
    return {**marks, **only_wanted(marks_of(_below(variables, changed)), changed)}


def without_stale(
    plans: Sequence[FixPlan], outcomes: Iterable[Outcome], marks: Mapping[str, Mark], variables: Mapping[str, object]
) -> tuple[FixPlan, ...]:
    """Give the plans, only shown where what they are about is gone or has changed.

    Args:
        plans: Those of one error.
        outcomes: What was run: that is done, and offered no more.
        marks: What there was when the cell failed.
        variables: The user's names and their objects, as they are now.
    """
    now = marks_of(_below(variables, plans))
    done = {(one.fix, one.subject) for one in outcomes if one.error is None}
    return tuple(one if (one.fix, one.subject) in done else _judged(one, marks, now) for one in plans)


def _below(variables: Mapping[str, object], plans: Iterable[FixPlan]) -> dict[str, object]:
    names = {root_of(path) for plan in plans for path in plan.targets}
    return {name: variables[name] for name in names if name in variables}


def _judged(plan: FixPlan, marks: Mapping[str, Mark], now: Mapping[str, Mark]) -> FixPlan:
    states = [_state(path, plan.loads, marks, now) for path in plan.targets]
    state = next((one for one in STALE if one in states), "")
    if plan.applicability == "display_only" or not state:
        return plan
    return replace(plan, applicability="display_only", obstacle=state)


def _state(
    path: str, loads: bool, marks: Mapping[str, Mark], now: Mapping[str, Mark]
) -> Literal["gone", "changed", ""]:
    key = path if path in marks else root_of(path)
    was, there = marks.get(key), now.get(key)
    if loads:  # it binds the name: only what came meanwhile would be lost
        lost = there is not None and there.kind != "NoneType" and (was is None or not was.is_same(there))
        return "changed" if lost else ""
    if was is None:
        return ""
    if there is None:
        return "gone"
    return "" if was.is_same(there) else "changed"
