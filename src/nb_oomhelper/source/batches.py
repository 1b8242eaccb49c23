"""Loops that take batches of a tensor by themselves: of what `split` gives, or of a loader's."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_name, last_name, walk

_CUTS = frozenset({"split", "chunk"})


def move_in_loops(
    text: SourceText, body: list[ast.stmt], read: ast.Name, tail: str, parents: Mapping[ast.AST, ast.AST]
) -> list[Edit] | None:
    """Move each batch at the top of the loops that take it: `for xb in x.split(64):`, or of a loader of a dataset.

    Args:
        text: The source.
        body: The statements that a name is read in.
        read: Where it is read.
        tail: What moves: ".to(device)".
        parents: Of the statements, by node.

    Returns:
        The places that change; None where it is read in no such way.
    """
    targets = list(_cut(read, parents)) or _loaded(body, read, parents)
    edits: list[Edit] = []
    for loop, target in targets:
        start = text.span(loop.body[0])[0]
        place = text.line_start(start)
        indent = text.text[place:start]
        if not isinstance(target, ast.Name) or indent.strip():
            return None
        edits.append((place, place, f"{indent}{target.id} = {target.id}{tail}\n"))
    return edits or None


def _cut(read: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> Iterator[tuple[ast.For, ast.expr]]:
    """`x.split(64)`, as it is or beside others: `zip(x.split(64), y.split(64))`."""
    method = parents.get(read)
    call = parents.get(method) if isinstance(method, ast.Attribute) and method.attr in _CUTS else None
    if not isinstance(call, ast.Call) or call.func is not method:
        return
    above = parents.get(call)
    if isinstance(above, ast.For) and above.iter is call:
        yield above, above.target
    outer = parents.get(above) if isinstance(above, ast.Call) and last_name(above.func) == "zip" else None
    if isinstance(outer, ast.For) and outer.iter is above and isinstance(outer.target, ast.Tuple):
        yield from _at_place(above, call, outer)  # type: ignore[arg-type]


def _at_place(given: ast.Call, one: ast.expr, loop: ast.For) -> Iterator[tuple[ast.For, ast.expr]]:
    parts = loop.target.elts if isinstance(loop.target, (ast.Tuple, ast.List)) else []
    if one in given.args and len(parts) == len(given.args) and not given.keywords:
        yield loop, parts[given.args.index(one)]


def _loaded(body: list[ast.stmt], read: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> list[tuple[ast.For, ast.expr]]:
    """`TensorDataset(x, y)`, of which a loader makes the batches of loops; none where anything else gets one."""
    made = parents.get(read)
    if not isinstance(made, ast.Call) or last_name(made.func) != "TensorDataset":
        return []
    found: list[tuple[ast.For, ast.expr]] = []
    todo: list[ast.AST] = [made]
    while todo:
        node = todo.pop()
        above = parents.get(node)
        if isinstance(above, ast.Call) and last_name(above.func) == "DataLoader" and above.args[:1] == [node]:
            todo.append(above)
        elif isinstance(above, ast.Call) and last_name(above.func) == "len":
            continue
        elif isinstance(above, ast.Assign) and len(above.targets) == 1 and isinstance(above.targets[0], ast.Name):
            name = above.targets[0].id
            todo += [one for one in walk(body) if is_name(one, name) and isinstance(one.ctx, ast.Load)]  # type: ignore[attr-defined]
        else:
            places = list(_at_place(made, read, above)) if isinstance(above, ast.For) and above.iter is node else []
            if not places:
                return []
            found += places
    return found
