"""What is put into lists and dicts, and whether a copy of it would be as good."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from nb_oomhelper.source.in_place import FUNCTIONS, METHODS, is_in_place
from nb_oomhelper.source.tree import LOOPS, is_name, last_name, names_in, nodes_above, pairs, root_name, walk

CHANGES = frozenset({"append", "extend", "insert", "add", "update", "pop", "remove", "clear", "reverse"})
CHANGES |= METHODS | {"setdefault", "discard", "popitem", "appendleft", "subtract"}
"""Methods that change a container, or an array."""


def is_copied(made: ast.expr, body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Tell whether a copy is as good as what is made: nothing of it is changed after it was put in.

    Args:
        made: What is put in.
        body: The code.
        parents: As `parents_of` gives them.
    """
    if any(isinstance(one, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Lambda)) for one in ast.walk(made)):
        return False
    parts = made.elts if isinstance(made, (ast.Tuple, ast.List, ast.Set)) else [made]
    parts = [*made.values] if isinstance(made, ast.Dict) else parts
    given = [root_name(one) for one in parts if isinstance(one, (ast.Name, ast.Attribute, ast.Subscript))]
    return not any(name and _is_changed_later(name, made, body, parents) for name in given)


def _is_changed_later(name: str, put: ast.expr, body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether what a name stands for is changed behind a place, or before it in a loop that keeps its object."""
    loop = next((one for one in nodes_above(put, parents) if isinstance(one, LOOPS)), None)
    found = [one for one in walk(body) if changes(one, name)]
    line = put.lineno
    anew = loop is not None and name in _bound_in(loop)
    return any(getattr(one, "lineno", 0) >= line or (loop is not None and not anew) for one in found)


def changes(node: ast.AST, name: str) -> bool:
    """Tell whether a node changes the object of a name.

    Args:
        node: The node.
        name: The name.
    """
    if isinstance(node, ast.AugAssign) and is_name(node.target, name):
        return True
    if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
        return root_name(node) == name
    if not isinstance(node, ast.Call):
        return False
    if any(one.arg in ("out", "inplace") for one in node.keywords) or last_name(node.func) in FUNCTIONS:
        return name in names_in(node)
    method = node.func if isinstance(node.func, ast.Attribute) and root_name(node.func.value) == name else None
    return method is not None and (method.attr in CHANGES or is_in_place(method.attr))


def changes_any(names: Iterable[str], body: Iterable[ast.AST]) -> bool:
    """Tell whether code changes the object of a name.

    Args:
        names: The names.
        body: The code.
    """
    names = [*names]
    return any(changes(one, name) for one in walk(body) for name in names)


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
