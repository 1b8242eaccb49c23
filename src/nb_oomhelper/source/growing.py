"""What grows by being joined anew with each step: `out = torch.cat([out, part])`."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_at, is_name, last_name, nodes_above, pairs, parents_of, walk


def join_on_host(text: SourceText, body: list[ast.stmt], line: int) -> tuple[str, list[Edit]] | None:
    """Let what grows by `out = torch.cat([out, part])` grow in host memory.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.

    Returns:
        The name that grows, and the edits.
    """
    parents = parents_of(walk(body))
    for node in walk(body):
        if not isinstance(node, ast.Assign) or not is_at(node, line) or not _is_in_loop(node, parents):
            continue
        name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
        if not name or len(node.targets) != 1 or not _grown(node.value, name):
            continue
        bound = [(one, value) for one in walk(body) for target, value in pairs(one) if is_name(target, name)]
        if any(not _is_in_loop(one, parents) for one, _ in bound):  # it begins here
            return name, [edit for _, value in bound for edit in _to_host(text, value, name)]
    return None


def _grown(value: ast.expr, name: str) -> ast.List | None:
    """The list `[out, part]` of what is joined to what there was."""
    for one in ast.walk(value):
        if isinstance(one, ast.Call) and last_name(one.func) in ("cat", "concat", "vstack", "hstack") and one.args:
            joined = one.args[0]
            if isinstance(joined, (ast.List, ast.Tuple)) and any(is_name(part, name) for part in joined.elts):
                return joined  # type: ignore[return-value]
    return None


def _to_host(text: SourceText, value: ast.expr, name: str) -> list[Edit]:
    if isinstance(value, ast.IfExp):
        return [*_to_host(text, value.body, name), *_to_host(text, value.orelse, name)]
    if isinstance(value, ast.Constant) or is_name(value, name):
        return []
    if (joined := _grown(value, name)) is not None:
        return [edit for part in joined.elts if not is_name(part, name) for edit in put_behind(text, part, ".cpu()")]
    return put_behind(text, value, ".cpu()")


def _is_in_loop(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    return any(isinstance(one, (ast.For, ast.While)) for one in nodes_above(node, parents))
