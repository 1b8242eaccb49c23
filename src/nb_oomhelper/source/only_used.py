"""More is computed than is used: `np.diag(a @ b)`, and a decomposition with all the columns that nobody looks at."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_argument
from nb_oomhelper.source.tree import is_at, is_name, last_name, parents_of, walk

_ARRAYS = frozenset({"np", "numpy", "torch"})
_DIAGONALS = {"diag": "i", "diagonal": "i", "trace": ""}


def thin_svd(text: SourceText, body: list[ast.stmt], line: int) -> list[Edit]:
    """Give `svd` the argument that leaves out the columns beyond the smaller side, where nobody reads these.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
    """
    parents = parents_of(walk(body))
    for node in walk(body):
        call = node.value if isinstance(node, ast.Assign) and is_at(node, line) else None
        if not isinstance(call, ast.Call) or last_name(call.func) != "svd" or len(call.args) != 1 or call.keywords:
            continue
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        target = node.targets[0]  # type: ignore[attr-defined]
        if not owner.endswith("linalg") or not isinstance(target, ast.Tuple) or len(target.elts) != 3:
            return []
        sides = (target.elts[0], target.elts[2])
        if all(isinstance(one, ast.Name) and _only_cut(body, one, parents) for one in sides):
            return with_argument(text, call, "full_matrices=False")
    return []


def _only_cut(body: list[ast.stmt], target: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a side of a decomposition is never looked at as a whole, or read for rows beyond those named."""
    reads = [one for one in walk(body) if is_name(one, target.id) and one is not target]
    return all(isinstance(parents.get(one), ast.Subscript) and parents[one].value is one for one in reads)  # type: ignore[attr-defined]


def diagonal_alone(text: SourceText, body: list[ast.stmt], line: int) -> list[Edit]:
    """Compute the diagonal of a product alone: `np.einsum("ij,ji->i", a, b)` for `np.diag(a @ b)`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
    """
    parents = parents_of(walk(body))
    for node in walk(body):
        if isinstance(node, ast.stmt) and is_at(node, line) and not hasattr(node, "body"):
            for product in ast.walk(node):
                if isinstance(product, ast.BinOp) and isinstance(product.op, ast.MatMult):
                    return _of_product(text, body, node, product, parents)
    return []


def _of_product(
    text: SourceText, body: list[ast.stmt], node: ast.stmt, product: ast.BinOp, parents: Mapping[ast.AST, ast.AST]
) -> list[Edit]:
    reads: list[ast.expr] = [product]
    removed: list[Edit] = []
    if isinstance(node, ast.Assign) and node.value is product:
        target = node.targets[0]
        if len(node.targets) > 1 or not isinstance(target, ast.Name):
            return []
        reads = [one for one in walk(body) if is_name(one, target.id) and one is not target]  # type: ignore[misc]
        start, end = text.span(node)
        first, last = text.line_start(start), text.line_end(end)
        if text.text[first:last].strip() != text.text[start:end]:
            return []
        removed = [(first, min(last + 1, len(text.text)), "")]
    edits = [_einsum(text, one, product, parents) for one in reads]
    return [*removed, *(one for one in edits if one is not None)] if edits and None not in edits else []


def _einsum(text: SourceText, read: ast.expr, product: ast.BinOp, parents: Mapping[ast.AST, ast.AST]) -> Edit | None:
    """The edit of one call that takes the diagonal; None where something else reads the product."""
    above = parents.get(read)
    if isinstance(above, ast.Call) and isinstance(above.func, ast.Attribute) and above.args == [read]:
        call, owner = above, ast.unparse(above.func.value)
    elif isinstance(above, ast.Attribute) and isinstance(parents.get(above), ast.Call):
        call, owner = parents[above], "torch" if "torch" in text.text else "np"  # type: ignore[assignment]
    else:
        return None
    name = last_name(call.func) or ""
    if name not in _DIAGONALS or call.keywords or owner not in _ARRAYS or (above is not call and call.args):
        return None
    sides = [text.text[slice(*text.span(one))] for one in (product.left, product.right)]
    return (*text.span(call), f'{owner}.einsum("ij,ji->{_DIAGONALS[name]}", {", ".join(sides)})')
