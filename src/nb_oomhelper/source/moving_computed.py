"""Data that is moved to a device whole and made ready there, though only batches are used: made ready on the host."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping

from nb_oomhelper.source.moving import moves, uses_of_batches, what_moves
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    blocks_of,
    changes_of,
    is_at,
    names_in,
    names_reached,
    pairs,
    parents_of,
    root_name,
    walk,
)

_SAY_WHERE = frozenset({"device", "generator"})
_BUILTIN = frozenset({"len", "float", "int", "range", "min", "max"})
_DRAWS = ("rand", "drop", "normal", "bernoulli", "multinomial", "shuffle")  # the host draws other numbers


def where_computed(
    text: SourceText, body: list[ast.stmt], line: int, elsewhere: Collection[str]
) -> tuple[str, list[Edit]] | None:
    """Leave data in host memory, compute with it there, and move each batch where the code takes it.

    Args:
        text: The source.
        body: The statements that the line is among; what is bound there is used nowhere else.
        line: The line that was running, from 1.
        elsewhere: Other names that stand for something on the device.

    Returns:
        The names that are bound, and the edits; None where anything else takes part, or where no batch is taken.
    """
    block = next((one for one in reversed([*blocks_of(body)]) if any(is_at(node, line) for node in one)), [])
    made = [(node, target, value) for node in block for target, value in pairs(node)]
    begun = [(node, target) for node, target, _ in made if is_at(node, line)]
    names = _made_of(made, {root_name(target) for _, target in begun})
    own = [(node, target, value) for node, target, value in made if root_name(target) in names]
    calls = [one for _, _, value in own for one in ast.walk(value) if isinstance(one, ast.Call) and moves(one)]
    tails = {text.text[text.span(what_moves(one))[1] : text.span(one)[1]] for one in calls}
    plain = all(isinstance(target, ast.Name) and _is_alike(value, names, elsewhere) for _, target, value in own)
    if not begun or len(tails) != 1 or not plain or any(changes_of(body, one) for one in names):
        return None
    edits = _batches(text, body, names, own, calls)
    if edits is None:
        return None
    return ", ".join(sorted(names)), [
        *((text.span(what_moves(one))[1], text.span(one)[1], "") for one in calls),
        *edits,
    ]


def _made_of(made: list[tuple[ast.stmt, ast.expr, ast.expr]], names: set[str]) -> set[str]:
    """Some names, and what they are computed from of what lies on the device."""
    moved = {
        root_name(to)
        for _, to, value in made
        if any(isinstance(one, ast.Call) and moves(one) for one in ast.walk(value))
    }
    links = [(names_in(value), names_in(target)) for _, target, value in made]
    derived = names_reached(moved, links)
    back = [(names_in(target), names_in(value) & derived) for _, target, value in made]
    return names_reached(names & derived, back)


def _is_alike(value: ast.expr, names: Collection[str], elsewhere: Collection[str]) -> bool:
    """Whether an expression gives the same in host memory: nothing of the device, no model and no chance is in it."""
    inner = {one for call in ast.walk(value) if isinstance(call, ast.Call) and moves(call) for one in _told(call)}
    rest = [one for one in ast.walk(value) if one not in inner]
    if {one.id for one in rest if isinstance(one, ast.Name)} & {*elsewhere} - {*names}:
        return False
    for one in rest:
        if isinstance(one, (ast.Lambda, ast.Await, ast.NamedExpr)) or getattr(one, "arg", "") in _SAY_WHERE:
            return False
        if isinstance(one, ast.Call) and not _is_known(one.func):
            return False
    return True


def _told(call: ast.Call) -> list[ast.AST]:
    return [part for one in (*call.args, *call.keywords) for part in ast.walk(one)]


def _is_known(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if any(one in name for one in _DRAWS):
        return False
    return isinstance(function, ast.Attribute) or name in _BUILTIN


def _batches(
    text: SourceText,
    body: list[ast.stmt],
    names: set[str],
    own: list[tuple[ast.stmt, ast.expr, ast.expr]],
    calls: list[ast.Call],
) -> list[Edit] | None:
    parents: Mapping[ast.AST, ast.AST] = parents_of(walk(body))
    within = {part for _, _, value in own for part in ast.walk(value)}
    edits: list[Edit] = []
    for name in sorted(names):
        reads = [one for one in walk(body) if isinstance(one, ast.Name) and one.id == name and one not in within]
        reads = [one for one in reads if isinstance(one.ctx, ast.Load)]
        uses = uses_of_batches(text, body, name, reads, calls[0], calls, parents)
        if uses is None and (reads or any(name in names_in(one) for one in _inner(body))):
            return None
        edits += uses or []
    return edits or None


def _inner(body: list[ast.stmt]) -> list[ast.AST]:
    return [one for one in walk(body) if isinstance(one, (ast.FunctionDef, ast.Lambda, ast.ClassDef))]
