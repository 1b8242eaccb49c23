"""A list of many `True` and `False`: eight bytes each, where a `bytearray` has one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_name, last_name, parents_of, walk

_ASKS = frozenset({"sum", "any", "all", "len"})  # functions to which it is the same


def flags_in_bytes(text: SourceText, body: list[ast.stmt]) -> tuple[str, list[Edit]] | None:
    """Let a list of flags be a bytearray: `sieve = [True] * n`, where it is only set, asked and counted.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.

    Returns:
        The list's name and the places that change; None where there is none, or where it would be seen.
    """
    parents = parents_of(walk(body))
    for node in walk(body):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if _repeated(node.value) is None:
            continue
        edits = _edits(text, body, name, parents)
        if edits:
            return name, edits
    return None


def _edits(text: SourceText, body: list[ast.stmt], name: str, parents: dict[ast.AST, ast.AST]) -> list[Edit]:
    """All uses of a name; none where one of them would see the difference."""
    edits = list[Edit]()
    for use in walk(body):
        if not is_name(use, name):
            continue
        parent = parents[use]
        if isinstance(parent, ast.Assign) and use in parent.targets:
            value: ast.expr | None = parent.value if len(parent.targets) == 1 else None
        elif isinstance(parent, ast.Subscript) and parent.value is use and isinstance(parent.ctx, ast.Store):
            value = _set_to(parents[parent], parent)
        elif _is_asked(use, parent, parents):
            continue
        else:
            return []
        if value is None or (repeated := _repeated(value)) is None:
            if isinstance(parent, ast.Subscript) and isinstance(value, ast.Constant) and type(value.value) is bool:
                continue
            return []
        count, flag = repeated
        start, end = text.span(count)
        edits.append((*text.span(value), _bytes(text.text[start:end], count, flag=flag)))
    return edits


def _repeated(value: ast.expr) -> tuple[ast.expr, bool] | None:
    """How often, and which, where a value is `[True] * n`."""
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Mult):
        return None
    for flags, count in ((value.left, value.right), (value.right, value.left)):
        one = flags.elts[0] if isinstance(flags, ast.List) and len(flags.elts) == 1 else None
        if isinstance(one, ast.Constant) and type(one.value) is bool:
            return count, one.value
    return None


def _bytes(count: str, node: ast.expr, *, flag: bool) -> str:
    plain = isinstance(node, (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript))
    return f"bytearray([{int(flag)}]) * {count if plain else f'({count})'}"


def _set_to(node: ast.AST, target: ast.Subscript) -> ast.expr | None:
    """What places of it are set to: `sieve[0] = sieve[1] = False`; None where it is no plain assignment."""
    return node.value if isinstance(node, ast.Assign) and target in node.targets else None


def _is_asked(use: ast.AST, parent: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a use asks for flags, counts them or goes through them, and keeps none."""
    if isinstance(parent, ast.Subscript) and parent.value is use and not isinstance(parent.slice, ast.Slice):
        return _is_test(parent, parents)
    if isinstance(parent, ast.Subscript) and isinstance(parents[parent], ast.Call):  # `sum(sieve[2:])`
        return (last_name(parents[parent].func) or "") in _ASKS  # type: ignore[attr-defined]
    if isinstance(parent, ast.Attribute):
        return parent.attr == "count"
    if isinstance(parent, ast.Call):
        if last_name(parent.func) == "enumerate" and parent.args[:1] == [use]:
            return _flags_are_tests(parent, parents, second=True)
        return isinstance(parent.func, ast.Name) and parent.func.id in _ASKS
    return _flags_are_tests(use, parents, second=False)


def _is_test(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether only the truth of an expression counts."""
    parent = parents[node]
    if isinstance(parent, ast.BoolOp) or (isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)):
        return isinstance(parent, ast.UnaryOp) or _is_test(parent, parents)
    if isinstance(parent, (ast.If, ast.While, ast.IfExp)):
        return parent.test is node
    return isinstance(parent, ast.comprehension) and node in parent.ifs


def _flags_are_tests(over: ast.AST, parents: dict[ast.AST, ast.AST], *, second: bool) -> bool:
    """Whether a loop or comprehension goes through it and asks each flag only whether it is true."""
    loop = parents[over]
    if not isinstance(loop, (ast.For, ast.comprehension)) or loop.iter is not over:
        return False
    target = loop.target
    if second:
        target = target.elts[1] if isinstance(target, ast.Tuple) and len(target.elts) == 2 else ast.Constant(0)
    within = loop if isinstance(loop, ast.For) else parents[loop]
    return isinstance(target, ast.Name) and all(_is_test(one, parents) for one in _reads(within, target.id))


def _reads(node: ast.AST, name: str) -> Iterator[ast.AST]:
    return (one for one in ast.walk(node) if is_name(one, name) and isinstance(one.ctx, ast.Load))  # type: ignore[attr-defined]
