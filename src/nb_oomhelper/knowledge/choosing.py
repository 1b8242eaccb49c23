"""Which entry is about a case: by what the message, the traceback, the cell and the diagnosis tell, not by words alone.

An entry states conditions (`Scope`). One that does not hold rules the entry out; where one cannot be told, or the entry
calls itself a hint, it is related at most. Where two entries fit equally well neither is called the match, and of two
that are only likely none is named: that is better than to name a wrong one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from nb_oomhelper.knowledge.entry import Entry, Scope
from nb_oomhelper.knowledge.fix import Fix
from nb_oomhelper.records.diagnosis import Cause, CauseKind, Diagnosis
from nb_oomhelper.records.event import OomEvent
from nb_oomhelper.source.call_sites import read_tree

# What each condition weighs. Some tell one problem from another (`_tells_apart`); the rest only tell where it was.
_WEIGHTS = {
    "says": 15,
    "cause": 12,
    "remote": 8,
    "module": 9,
    "format": 6,
    "stage": 1,
    "call": 2,
    "phase": 2,
    "framework": 2,
    "backend": 2,
}
# Causes that every failure has, or that the cell may need: alone they explain nothing.
_BACKGROUND = frozenset(("failed_cell", "variable", "limit", "unnamed", "rest", "workspace", "rounding"))
# Causes whose bytes are no holder's: what was asked for, a limit, pieces.
_NO_HOLDER = frozenset(("too_large", "limit", "fragmentation", "not_short", "context", "handle", "pinned_refused"))
_BY_CODE = _BACKGROUND | {"graph", "copies"}  # causes that a change of the code explains, if there is one
_PASSED = 3  # runners-up that are told

Relation = Literal["match", "related", "passed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An entry that bears on an event.

    Attributes:
        entry: The entry.
        relation: "match" where all that it states holds, "related" where something cannot be told, "passed" where one
            condition does not hold: it is told beside another, and is never the best.
        differs: What that is: "backend", "phase", "cause", …; "hint" where the entry is never sure; "others" where
            another fits as well.
    """

    entry: Entry
    relation: Relation
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was found for a case.

    Attributes:
        best: The entry that is about it, or else the likeliest; None where none fits.
        others: Those that fit too, less well; then those of which one condition does not hold.
        read: What was looked at, as pairs of a condition's name and its value, where that is known.
    """

    best: Match | None = None
    others: tuple[Match, ...] = ()
    read: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    event: OomEvent
    causes: tuple[CauseKind, ...] | None  # those that explain, largest first; None where nobody diagnosed
    change: str | None  # id of a fix
    names: frozenset[str] | None  # in the failed cell; None where it cannot be read
    message: str  # whatever its case
    module: str | None  # of the call that failed, with a dot at its end


def choose(
    entries: Iterable[Entry],
    event: OomEvent,
    diagnosis: Diagnosis | None = None,
    cell: str = "",
    change: Fix | None = None,
) -> Choice:
    """Find the entry that is about a case.

    Args:
        entries: Those to choose from.
        event: What failed.
        diagnosis: Our reading of it, or None.
        cell: Source of the failed cell, or "".
        change: The fix that changes what was found wrong, or too large, in the notebook's code; or None.
    """
    causes, change = _weighed(_explaining(diagnosis), change)
    facts = _Facts(
        event=event,
        causes=causes,
        change=change.id if change else None,
        names=_names(cell),
        message=event.message.casefold(),
        module=f"{event.call.module}." if event.call else None,
    )
    fitting: list[tuple[int, Match]] = []
    passed: list[tuple[int, Match]] = []
    for entry in entries:
        own = entry.origin is not None  # who writes one for a cluster may mean all that runs out there
        if not own and not _tells_apart(entry.match, facts):
            continue
        answers = _answers(entry.match, facts)
        wrong = tuple(name for name, answer in answers.items() if answer is False)
        weight = 2 * sum(_WEIGHTS[name] for name, answer in answers.items() if answer)
        open_yet = tuple(name for name, answer in answers.items() if answer is None)
        if entry.match.hint and facts.change not in entry.match.mends:
            open_yet += ("hint",)
        if not wrong:
            found = Match(entry=entry, relation="related" if open_yet else "match", differs=open_yet)
            fitting.append((weight + own, found))
        elif len(wrong) == 1:
            passed.append((weight, Match(entry=entry, relation="passed", differs=wrong)))
    ranked, clear = _ranked(fitting)
    return Choice(
        best=ranked[0] if clear else None,
        others=tuple(ranked[clear:]) + tuple(_sorted(passed)[:_PASSED]),
        read=tuple(_read(facts)),
    )


def _ranked(fitting: list[tuple[int, Match]]) -> tuple[list[Match], bool]:
    """Matches first, the more they state the earlier, and whether the first of all is clearly ahead.

    Of two matches that state as much neither is sure, and the first is offered; of two that are not sure none is.
    """
    sure = [one for one in fitting if one[1].relation == "match"]
    rest = [one for one in fitting if one[1].relation != "match"]
    ranks = sorted((-weight, len(one.differs)) for weight, one in sure or rest)
    tied = len(ranks) > 1 and ranks[0] == ranks[1]
    if sure and tied:
        sure = [(weight, replace(one, relation="related", differs=("others",))) for weight, one in sure]
    return _sorted(sure) + _sorted(rest), bool(fitting) and (bool(sure) or not tied)


def _sorted(found: list[tuple[int, Match]]) -> list[Match]:
    return [one for _, one in sorted(found, key=lambda pair: (-pair[0], len(pair[1].differs), pair[1].entry.code))]


def _tells_apart(scope: Scope, facts: _Facts) -> bool:
    """Whether something holds that tells one problem from another: the first question to each of many entries."""
    event = facts.event
    return bool(
        (scope.formats and event.format in scope.formats)
        or (scope.says and any(text in facts.message for text in scope.says))
        or ((scope.causes or scope.mends) and _explains(scope, facts))
        or (scope.calls and facts.names and not facts.names.isdisjoint(scope.calls))
        or (scope.modules and _within(scope.modules, facts.module))
        or (scope.remotes and event.remote in scope.remotes)
        or (event.stage and event.stage in scope.stages and _phase(scope, event))  # a forward pass is told by nothing
    )


def _phase(scope: Scope, event: OomEvent) -> str | None:
    """What was going on; None where nobody knows, but for an entry that is about just that."""
    told = event.phase != "unknown" or ("unknown" in scope.phases and event.call is None)
    return event.phase if told else None


def _answers(scope: Scope, facts: _Facts) -> dict[str, bool | None]:
    """Whether each condition that is stated holds; None where it cannot be told."""
    event = facts.event
    phase = _phase(scope, event)
    asked: dict[str, tuple[Sequence[str], Callable[[], bool | None]]] = {
        "framework": (scope.frameworks, partial(_one_of, scope.frameworks, event.framework)),
        "backend": (scope.backends, partial(_one_of, scope.backends, _backend(scope, event))),
        "phase": (scope.phases, partial(_one_of, scope.phases, phase)),
        "stage": (scope.stages, partial(_one_of, scope.stages, event.stage if phase else None)),
        "format": (scope.formats, partial(_one_of, scope.formats, event.format)),
        "says": (scope.says, lambda: any(text in facts.message for text in scope.says)),
        "cause": (scope.causes + scope.mends, partial(_explains, scope, facts)),
        "module": (scope.modules, partial(_within, scope.modules, facts.module)),
        "call": (scope.calls, lambda: None if facts.names is None else not facts.names.isdisjoint(scope.calls)),
    }
    found = {name: ask() for name, (stated, ask) in asked.items() if stated}
    if scope.remotes or event.remote is not None:  # another process's error is not explained by this one's memory
        found["remote"] = event.remote in scope.remotes
    return found


def _backend(scope: Scope, event: OomEvent) -> str | None:
    """Where memory ran out. What is known of CUDA is likely of HIP, whose allocator is the same code."""
    return None if event.backend == "hip" and "cuda" in scope.backends else event.backend


def _one_of(allowed: Sequence[str], value: str | None) -> bool | None:
    return None if value is None else value in allowed


def _within(packages: Sequence[str], module: str | None) -> bool | None:
    return None if module is None else any(module.startswith(f"{package}.") for package in packages)


def _explains(scope: Scope, facts: _Facts) -> bool | None:
    """Whether the entry is about what was found in the code, or about the first of the causes."""
    if facts.change in scope.mends:
        return True
    return None if facts.causes is None else bool(facts.causes) and facts.causes[0] in scope.causes


def _explaining(diagnosis: Diagnosis | None) -> tuple[CauseKind, ...] | None:
    """The causes of which each alone explains what is missing, most telling first.

    Where there are none it is the larger of what the failed cell has made and what the variables hold; and a limit,
    which is often set, where that is nothing either.
    """
    if diagnosis is None:
        return None
    covering = [cause for cause in diagnosis.causes if _covers(cause, diagnosis)]
    found = [cause.kind for cause in covering if cause.kind not in _BACKGROUND]
    held = [cause for cause in covering if cause.kind in ("failed_cell", "variable")]
    weak = [cause.kind for cause in sorted(held, key=lambda cause: -(cause.size or 0))] or [
        cause.kind for cause in covering if cause.kind == "limit"
    ]
    return tuple(dict.fromkeys(found or weak[:1]))


def _weighed(
    causes: tuple[CauseKind, ...] | None, change: Fix | None
) -> tuple[tuple[CauseKind, ...] | None, Fix | None]:
    """Of what the figures and what the code tell, that which goes before: of a mistake the code knows more."""
    if change is None or not _BY_CODE.issuperset(causes or ()):
        return causes, None
    return (() if change.subject == "mistake" or causes == ("limit",) else causes), change


def _covers(cause: Cause, diagnosis: Diagnosis) -> bool:
    """Whether without it the request would have fitted."""
    if cause.size is None or cause.kind in _NO_HOLDER:
        return True
    return diagnosis.short is not None and cause.size >= max(1, diagnosis.short)


def _names(cell: str) -> frozenset[str] | None:
    """All names, attributes, keyword arguments and one-word texts of a cell."""
    tree = read_tree(cell) if cell.strip() else None
    if tree is None:
        return None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            found.add(node.value)
    return frozenset(found)


def _read(facts: _Facts) -> Iterable[tuple[str, str]]:
    event = facts.event
    values = {
        "framework": event.framework,
        "backend": event.backend,
        "phase": "" if event.phase == "unknown" else event.phase,
        "stage": event.stage,
        "format": event.format,
        "remote": event.remote or "",
        "module": event.call.module if event.call else "",
        "cause": ", ".join(facts.causes or ()),
        "change": facts.change or "",
    }
    return ((name, value) for name, value in values.items() if value)
