"""What a piece of code adds up: sums of tensors that keep the graph of every step."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.collecting import is_free, is_keeper, put_behind, wants_tensors
from nb_oomhelper.source.flows import reached_from
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import last_name, names_in, pairs, walk

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
    if _goes_backward(body, name):  # the sum itself is what is trained with
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
    if wants_tensors(body, name, readers):
        return [edit for node in tensors for edit in put_behind(text, node, ".detach()")]
    return [edit for node in tensors for edit in _made_number(text, body, node)]


def _made_number(text: SourceText, body: list[ast.stmt], node: ast.expr) -> list[Edit]:
    """`(x * n).item()`; a function may be given numbers already, or many of them, by others."""
    given = {one.arg for function in ast.walk(text.tree) if _is_body(function, body) for one in _arguments(function)}
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    if not names or names - given or any(isinstance(one, ast.Call) for one in ast.walk(node)):
        return put_behind(text, node, ".item()")
    start, end = text.span(node)
    return [(start, start, "getattr("), (end, end, f', "detach", lambda: {text.text[start:end]})()')]


def _is_body(function: ast.AST, body: list[ast.stmt]) -> bool:
    return isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and function.body is body


def _arguments(function: ast.AST) -> list[ast.arg]:
    return [one for part in ast.iter_child_nodes(function) for one in ast.walk(part) if isinstance(one, ast.arg)]


def _goes_backward(body: list[ast.stmt], name: str) -> bool:
    """`total.backward()`, `(total / n).backward()`, or of what is computed of it."""
    reached = reached_from(body, [name])
    calls = (node.func for node in walk(body) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    sent = [one.value for one in calls if one.attr == "backward"]
    return any(names_in(one) & reached or any(is_keeper(part, name) for part in ast.walk(one)) for one in sent)


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
