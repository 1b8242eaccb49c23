"""What is put into lists and dicts, and whether a copy of it would be as good."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping

from nb_oomhelper.source.demand_reads import Find
from nb_oomhelper.source.in_place import FUNCTIONS, METHODS, is_in_place
from nb_oomhelper.source.tree import (
    LOOPS,
    arguments,
    handed_over,
    last_name,
    names_in,
    nodes_above,
    pairs,
    root_name,
    walk,
)

CHANGES = frozenset({"append", "extend", "insert", "add", "update", "pop", "remove", "clear", "reverse"})
CHANGES |= METHODS | {"setdefault", "discard", "popitem", "appendleft", "subtract"}
"""Methods that change a container, or an array."""

# Of which nothing comes back, and which change nothing of what they get.
_QUIET = frozenset(
    {"print", "display", "len", "next", "plot", "scatter", "imshow", "hist", "bar", "pcolormesh", "contourf", "show"}
    | {"write", "writerow", "writerows", "info", "debug", "log", "set_postfix", "add_scalar", "save", "savetxt", "dump"}
    | {"fit", "partial_fit"}
)
_CHOICES = frozenset({"max", "min", "next", "choice", "sample", "sorted", "filter", "list", "tuple", "reversed"})
_DEPTH = 3  # functions that call each other


def is_copied(made: ast.expr, body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST], find: Find) -> bool:
    """Tell whether a copy is as good as what is made: nothing of it is changed after it was put in.

    Args:
        made: What is put in.
        body: The code.
        parents: As `parents_of` gives them.
        find: Finds a function of the notebook by its name.
    """
    if any(isinstance(one, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Lambda)) for one in ast.walk(made)):
        return False
    parts = made.elts if isinstance(made, (ast.Tuple, ast.List, ast.Set)) else [made]
    parts = [*made.values] if isinstance(made, ast.Dict) else parts
    given = [root_name(one) for one in parts if isinstance(one, (ast.Name, ast.Attribute, ast.Subscript))]
    return not any(name and _is_changed_later(name, made, body, parents, find) for name in given)


def _is_changed_later(
    name: str, put: ast.expr, body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST], find: Find
) -> bool:
    """Whether what a name stands for is changed behind a place, or before it in a loop that keeps its object."""
    loop = next((one for one in nodes_above(put, parents) if isinstance(one, LOOPS)), None)
    found = [one for one in walk(body) if changes(one, {name}, find)]
    line = put.lineno
    anew = loop is not None and name in _bound_in(loop)
    return any(getattr(one, "lineno", 0) >= line or (loop is not None and not anew) for one in found)


def changes(node: ast.AST, names: Collection[str], find: Find, depth: int = _DEPTH) -> bool:
    """Tell whether a node changes the object of a name, itself or by a function of the notebook.

    Args:
        node: The node.
        names: The names.
        find: Finds a function of the notebook by its name.
        depth: How many functions may call each other.
    """
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        return node.target.id in names
    if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
        return root_name(node) in names
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # nothing comes back
        call, name = node.value, last_name(node.value.func) or ""
        unknown = name not in _QUIET | CHANGES and (isinstance(call.func, ast.Attribute) or find(name) is None)
        return unknown and any(isinstance(one, ast.Name) and one.id in names for one in arguments(call))
    return isinstance(node, ast.Call) and _changes_by_call(node, names, find, depth)


def _changes_by_call(call: ast.Call, names: Collection[str], find: Find, depth: int) -> bool:
    name = last_name(call.func)
    if any(one.arg in ("out", "inplace") for one in call.keywords) or name in FUNCTIONS:
        return bool(names_in(call) & {*names})
    if name == "at" and call.args:  # `np.add.at(x, rows, 1)`
        return root_name(call.args[0]) in names
    if isinstance(call.func, ast.Attribute):
        method = call.func.attr
        return root_name(call.func.value) in names and (method in CHANGES or is_in_place(method))
    function = find(call.func.id) if isinstance(call.func, ast.Name) and depth else None
    if function is None:
        return False
    inner = {place for place, value in handed_over(call, function) if place is not None and root_name(value) in names}
    return bool(inner) and changes_any(inner, function.body, find, depth - 1)


def changes_any(names: Iterable[str], body: Iterable[ast.AST], find: Find, depth: int = _DEPTH) -> bool:
    """Tell whether code changes the object of a name, or of a part of it that has got a name.

    Args:
        names: The names.
        body: The code.
        find: Finds a function of the notebook by its name.
        depth: How many functions may call each other.
    """
    nodes = [*walk(body)]
    known = {*names} | parts_named(names, nodes)
    return any(changes(one, known, find, depth) for one in nodes)


def parts_named(names: Iterable[str], nodes: Iterable[ast.AST]) -> set[str]:
    """Give the names that parts of what some names stand for get: `first = rows[0]`, `for row in rows`.

    Args:
        names: The names.
        nodes: The nodes of the code, in their order.
    """
    known = {*names}
    for node in nodes:
        for target, value in pairs(node, unpacked=True):
            part = isinstance(value, (ast.Name, ast.Subscript, ast.Attribute)) and root_name(value) in known
            part = part or _is_choice(value, known)
            known |= names_in(target) if part and isinstance(target, (ast.Name, ast.Tuple)) else set()
        if isinstance(node, (ast.For, ast.comprehension)) and _gone_through(node.iter) & known:
            known |= names_in(node.target)
    return known - {*names}


def _is_choice(value: ast.expr, known: Collection[str]) -> bool:
    """Whether it gives some of what is in something: `max(rows, key=f)`, `[row for row in rows if row["x"]]`."""
    if isinstance(value, ast.Call) and last_name(value.func) in _CHOICES:
        return any(root_name(one) in known for one in value.args)
    if isinstance(value, (ast.ListComp, ast.GeneratorExp)):
        return any(_gone_through(one.iter) & {*known} for one in value.generators)
    return False


def _gone_through(node: ast.expr) -> set[str]:
    """Names of what a loop goes through: `rows`, `enumerate(rows)`, `rows.items()`."""
    if isinstance(node, ast.Call):
        owner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return {name for one in (*node.args, *owner) for name in _gone_through(one)}
    return {root_name(node)} - {""}


def _bound_in(loop: ast.AST) -> set[str]:
    """Names that each round of a loop binds anew, to something new."""
    found = names_in(loop.target) if isinstance(loop, (ast.For, ast.AsyncFor)) else set()
    for node in walk(getattr(loop, "body", ())):
        found |= {
            target.id
            for target, value in pairs(node, unpacked=True)
            if isinstance(target, ast.Name) and target.id not in names_in(value)
        }
    return found
