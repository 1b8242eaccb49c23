"""Code that takes rows with those beside them: windows, differences. A part of the rows has others at its ends."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from nb_oomhelper.source.tree import last_name, names_in, walk

_COUNTS = frozenset({"range", "trange"})


def takes_neighbors(body: Sequence[ast.AST], rows: Collection[str]) -> bool:
    """Tell whether a loop takes rows by places beside its own: `x[i:i + width]`, `x[i + 1]`; no batches one by one.

    Args:
        body: The code.
        rows: Names that stand for rows, or for what is computed of them.
    """
    steps = dict(_steps(body))
    for node in walk(body):
        if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in rows):
            continue
        index = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        counted = names_in(index) & steps.keys()
        if isinstance(index, (ast.Slice, ast.BinOp)) and any(not _goes_by(index, steps[one]) for one in counted):
            return True
    return False


def _steps(body: Sequence[ast.AST]) -> Iterator[tuple[str, str]]:
    """The numbers that loops count, each with what is added from one to the next: "" of one after another."""
    for node in walk(body):
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.target, ast.Name):
            over = node.iter
            if isinstance(over, ast.Call) and last_name(over.func) in _COUNTS:
                yield node.target.id, ast.unparse(over.args[2]) if len(over.args) == 3 else ""


def _goes_by(index: ast.expr, step: str) -> bool:
    """Whether slices begin where the last one ended: `x[i:i + batch]` by batches, `x[i * batch:(i + 1) * batch]`."""
    if not isinstance(index, ast.Slice) or index.lower is None or index.upper is None:
        return False
    if step:
        return step in ast.unparse(index.upper)
    return all(isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mult) for one in (index.lower, index.upper))
