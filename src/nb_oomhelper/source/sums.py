"""What a piece of code adds up: sums of tensors that keep the graph of every step."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.collecting import is_free, is_keeper, put_behind, wants_tensors
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import last_name, pairs, walk

_OF_NUMBERS = frozenset({"float", "int", "round", "str", "len", "min", "max", "sqrt", "item"})


def find_additions(
    text: SourceText, body: list[ast.stmt], name: str, readers: Collection[list[ast.stmt]] = ()
) -> list[Edit]:
    """Find what is added up under a name, to be made numbers.

    Args:
        text: The source.
        body: The statements to look in.
        name: What is added up: "total", "self.total", "stats['loss']".
        readers: Other code that may read it.
    """
    if _calls_on(body, name, "backward"):  # the sum itself is what is trained with
        return []
    if _computes_with(body, name):
        return []
    found: list[ast.expr] = []
    for node in walk(body):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and is_keeper(node.target, name):
            found.append(node.value)
        for target, value in pairs(node):
            if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and is_keeper(target, name):
                sides = (value.left, value.right)
                others = [one for one in sides if not is_keeper(one, name)]
                found += others if len(others) == 1 else []
    plain = (ast.Constant, ast.List, ast.Tuple)
    tensors = [node for node in found if not isinstance(node, plain) and not is_free(node)]
    behind = ".detach()" if wants_tensors(body, name, readers) else ".item()"
    return [edit for node in tensors for edit in put_behind(text, node, behind)]


def _calls_on(body: list[ast.stmt], name: str, method: str) -> bool:
    calls = (node.func for node in walk(body) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return any(one.attr == method and is_keeper(one.value, name) for one in calls)


def _computes_with(body: list[ast.stmt], name: str) -> bool:
    """Whether a loop goes on with what it adds to, `eps = model(x)` and then `x = x + eps`: that is no sum."""
    loops = [one for one in walk(body) if isinstance(one, (ast.For, ast.AsyncFor, ast.While))]
    called = [
        call
        for statement in walk([part for loop in loops for part in loop.body])
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        for call in ast.walk(statement)
        if isinstance(call, ast.Call) and last_name(call.func) not in _OF_NUMBERS
    ]
    given = [part for call in called for part in (*call.args, *(one.value for one in call.keywords))]
    return any(is_keeper(one, name) for one in walk(given))
