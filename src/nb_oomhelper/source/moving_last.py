"""Data that is moved to a device and then computed with there: moved once it is what it is to be."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.moving import gives_dtype, moves, what_moves
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_at, pairs, walk

_KEPT_SHAPE = frozenset(
    {"float", "half", "double", "bfloat16", "long", "int", "div", "mul", "sub", "add", "div_", "mul_", "sub_", "add_"}
    | {"sqrt", "log", "log1p", "exp", "abs", "clamp", "permute", "transpose", "reshape", "view", "flatten", "unsqueeze"}
    | {"squeeze", "contiguous", "swapaxes", "movedim"}
)


def host_first(text: SourceText, body: list[ast.stmt], line: int) -> tuple[str, list[Edit]] | None:
    """Move what is computed to the device, and not what it is computed from: `(x.float() / 255).to(device)`.

    Args:
        text: The source.
        body: The statements that the line is among.
        line: The line that was running, from 1.

    Returns:
        The name that is bound, and the edits; None where more than numbers take part.
    """
    for node in walk(body):
        if not isinstance(node, ast.Assign) or not is_at(node, line):
            continue
        for target, value in pairs(node):
            steps = list(_steps(value))
            call = steps[-1] if steps else value
            if not steps or call is value or not moves(call) or not isinstance(target, (ast.Name, ast.Attribute)):
                continue
            if gives_dtype([call]):  # type: ignore[list-item]
                continue  # it would be computed in another one
            tail = text.text[text.span(what_moves(call))[1] : text.span(call)[1]]
            cut: Edit = (text.span(what_moves(call))[1], text.span(call)[1], "")
            ends = [text.span(one.func)[1] for one in steps if isinstance(one, ast.Call) and _is_in_place(one)]
            copies: list[Edit] = [
                (end - 1, end, "") for end in ends
            ]  # what is moved was a copy, what is not is the user's
            return ast.unparse(target), [cut, *copies, *put_behind(text, value, tail)]
    return None


def _steps(value: ast.expr) -> Iterator[ast.expr]:
    """An expression from the outside in, as long as each step only changes the numbers of one tensor."""
    node: ast.expr | None = value
    while node is not None:
        yield node
        if moves(node):
            return
        if isinstance(node, ast.BinOp):
            sides = [one for one in (node.left, node.right) if not _is_number(one)]
            node = sides[0] if len(sides) == 1 else None
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _KEPT_SHAPE:
            plain = all(_is_number(one) for one in node.args) and all(_is_number(one.value) for one in node.keywords)
            node = node.func.value if plain else None
        else:
            node = None


def _is_in_place(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_")


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
