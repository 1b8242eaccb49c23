"""Where what is put into host memory would meet what lies on a device."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.tree import last_name, names_in

JOINS = frozenset({"cat", "concat", "concatenate", "stack", "vstack", "hstack", "pad_sequence"})
READS = JOINS | {"len", "print", "list", "tuple", "min", "max", "sorted"}


def is_picked(node: ast.AST, joined: set[str], numbers: Collection[str]) -> bool:
    """Tell whether what may lie on the device picks rows of something, or goes into it: `out[mask]`, `out.sub_(y)`.

    Args:
        node: Any node.
        joined: Names of what is in host memory then.
        numbers: Names of numbers of Python's.
    """
    method = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    if isinstance(node, ast.Call) and method is not None and names_in(method.value) & joined:
        return any(names_in(one) - joined - {*numbers} for one in node.args)
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name) or node.value.id not in joined:
        return False
    index = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    picks = [one for one in index if not isinstance(one, (ast.Slice, ast.Call))]
    return any(names_in(one) - joined - {*numbers} for one in picks)


def meets_others(node: ast.AST, joined: set[str], numbers: Collection[str] = ()) -> bool:
    """Tell whether something is computed with, together with what may lie on the device.

    Args:
        node: Any node.
        joined: Names of what is in host memory then.
        numbers: Names of numbers of Python's.
    """
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.BinOp):
        sides = [node.left, node.right]
    elif isinstance(node, ast.Call) and len(node.args) > 1 and last_name(node.func) not in READS:
        sides = list(node.args)
    else:
        return False
    roots = [{one.id for one in ast.walk(side) if isinstance(one, ast.Name)}.difference(numbers) for side in sides]
    return any(names & joined for names in roots) and any(names and not names & joined for names in roots)
