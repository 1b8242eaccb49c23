"""From what the values of a statement come, and what repeats it, within the statements around it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from nb_oomhelper.source.tree import LOOPS, blocks_of, is_at, names_bound, nodes_above, parents_of, walk


def sources_of(body: list[ast.stmt], line: int) -> list[ast.AST] | None:
    """Give the code that a line's statement depends on: itself, what repeats it, and what has bound what they read.

    What is collected item by item, `bank.append(x)`, is not gone into: how much there is in the end does not tell in
    what portions it came.

    Args:
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.

    Returns:
        The code; None where no statement of the body is on that line.
    """
    blocks = [block for block in blocks_of(body) if any(is_at(one, line) for one in block)]
    statement = next((one for one in blocks[-1] if is_at(one, line)), None) if blocks else None
    if statement is None:
        return None
    parents = parents_of(walk(body))
    loops = [one for one in nodes_above(statement, parents) if isinstance(one, LOOPS)]
    found: list[ast.AST] = [statement, *map(_header, loops)]
    todo = [(name, line) for node in found for name in _read(node)]
    met = set(todo)
    while todo:
        name, before = todo.pop()
        for node in _bindings(body, name, before, loops):
            if node not in found:
                found.append(node)
            new = {(one, getattr(node, "lineno", before)) for one in _read(node)} - met
            met |= new
            todo += new
    return found


def _header(loop: ast.stmt) -> ast.expr:
    return loop.test if isinstance(loop, ast.While) else loop.iter  # type: ignore[attr-defined]


def _bindings(body: list[ast.stmt], name: str, before: int, loops: Sequence[ast.stmt]) -> list[ast.AST]:
    """The last statement that binds a name before a line, and those that do so for the next step of a loop."""
    all_of_it = [node for node in walk(body) if isinstance(node, ast.stmt) and name in _bound(node)]
    earlier = [node for node in all_of_it if node.lineno < before]
    last = [max(earlier, key=lambda one: one.lineno)] if earlier else []
    again = [node for loop in loops for node in walk([loop]) if node in all_of_it and node.lineno >= before]
    return [_header(node) if isinstance(node, LOOPS) else node for node in (*last, *again)]


def _read(node: ast.AST) -> set[str]:
    """The names that code reads; `x += 1` reads it as well."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    return found | (names_bound([node.target]) if isinstance(node, ast.AugAssign) else set())


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds itself, and not what is within its block."""
    if isinstance(node, (ast.For, ast.AsyncFor)):
        return names_bound([node.target])
    if isinstance(node, (ast.With, ast.AsyncWith)):
        return names_bound([one.optional_vars for one in node.items if one.optional_vars is not None])
    return set() if hasattr(node, "body") else names_bound([node])
