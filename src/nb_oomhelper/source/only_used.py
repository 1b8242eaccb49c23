"""More is computed than is used: `np.diag(a @ b)`, and a decomposition with all the columns that nobody looks at."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping

from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_argument
from nb_oomhelper.source.tree import is_at, is_name, last_name, names_in, parents_of, walk

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
        reads = [
            [one for one in walk(body) if isinstance(side, ast.Name) and is_name(one, side.id) and one is not side]
            for side in (target.elts[0], target.elts[2])
        ]
        named = all(isinstance(one, ast.Name) for one in target.elts)
        if named and any(reads) and all(_is_first(one, parents, axis) for axis in (0, 1) for one in reads[axis]):
            return with_argument(text, call, "full_matrices=False")
    return []


def first_words(text: SourceText, body: list[ast.stmt], line: int) -> list[Edit]:
    """Split texts into the words that are read, and the rest: `n=2` for `words[0]` and `words[1]` of `str.split`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
    """
    for node in walk(body):
        if isinstance(node, ast.Call) and is_at(node, line) and _is_split(node):
            places = _words_read(node, parents_of(walk(body)), body)
            if places and None not in places:
                count = f"n={1 + max(one for one in places if one is not None)}"
                end = text.span(node)[1] - 1
                return with_argument(text, node, count) or [(end, end, count)]
    return []


def _is_split(call: ast.Call) -> bool:
    function = call.func
    of_texts = isinstance(function, ast.Attribute) and function.attr == "split" and last_name(function.value) == "str"
    return of_texts and len(call.args) <= 1 and {one.arg for one in call.keywords} <= {"pat", "expand", "regex"}


def _words_read(call: ast.Call, parents: Mapping[ast.AST, ast.AST], body: list[ast.stmt]) -> set[int | None]:
    """Which words are read, from 0; None among them where it is not told of one."""
    above = parents.get(call)
    reads: list[ast.AST] = [call]
    if isinstance(above, ast.Assign):
        target = above.targets[0]
        if len(above.targets) > 1 or not isinstance(target, ast.Name):
            return {None}
        named = [one for one in walk(body) if is_name(one, target.id) and one is not target]
        reads = [one for one in named if not isinstance(one.ctx, ast.Del)]  # type: ignore[attr-defined]
    expands = any(one.arg == "expand" for one in call.keywords)
    return set[int | None]().union(*(_places_in(one, parents, expands=expands) for one in reads))


def _places_in(read: ast.AST, parents: Mapping[ast.AST, ast.AST], *, expands: bool) -> set[int | None]:
    above = parents.get(read)
    if not expands:  # a column of lists: `words.str[0]`
        if not isinstance(above, ast.Attribute) or above.attr != "str":
            return {None}
        read, above = above, parents.get(above)
    if not isinstance(above, ast.Subscript) or above.value is not read or not isinstance(above.ctx, ast.Load):
        return {None}
    at = above.slice
    return {
        one.value if isinstance(one, ast.Constant) and type(one.value) is int and one.value >= 0 else None
        for one in (at.elts if isinstance(at, ast.List) and expands else [at])
    }


def _is_first(read: ast.AST, parents: Mapping[ast.AST, ast.AST], side: int) -> bool:
    """Whether the first columns of the left side are taken, `U[:, :k]`, or the first rows of the right, `Vt[:k]`."""
    above = parents.get(read)
    if not isinstance(above, ast.Subscript) or above.value is not read or not isinstance(above.ctx, ast.Load):
        return False
    index = above.slice
    if side == 0:
        if not isinstance(index, ast.Tuple) or len(index.elts) != 2 or ast.unparse(index.elts[0]) != ":":
            return False
        index = index.elts[1]
    first = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
    if isinstance(first, ast.Slice):
        return first.lower is None and first.step is None and isinstance(first.upper, (ast.Constant, ast.Name))
    return isinstance(first, ast.Constant) and type(first.value) is int


def diagonal_alone(
    text: SourceText,
    body: list[ast.stmt],
    line: int,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Collection[str] = (),
) -> list[Edit]:
    """Compute the diagonal of a product alone: `np.einsum("ij,ji->i", a, b)` for `np.diag(a @ b)`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
        shapes: Of the arrays and tensors, by name: the product must be a square.
        tensors: Names of those of PyTorch's.
    """
    parents = parents_of(walk(body))
    for node in walk(body):
        if isinstance(node, ast.stmt) and is_at(node, line) and not hasattr(node, "body"):
            for product in ast.walk(node):
                if isinstance(product, ast.BinOp) and isinstance(product.op, ast.MatMult):
                    sides = _rows_of(product.left, shapes), _columns_of(product.right, shapes)
                    if sides[0] is None or sides[0] != sides[1]:
                        return []
                    library = "torch" if names_in(product) & {*tensors} else "np"
                    return _of_product(text, body, node, product, parents, library)
    return []


def _rows_of(node: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many rows a matrix has: a name, turned or not, or a product that begins with one."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return _rows_of(node.left, shapes)
    if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        return _columns_of(node.value, shapes)
    shape = shapes.get(node.id, ()) if isinstance(node, ast.Name) else ()
    return shape[0] if len(shape) == 2 else None


def _columns_of(node: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        return _rows_of(node.value, shapes)
    shape = shapes.get(node.id, ()) if isinstance(node, ast.Name) else ()
    return shape[1] if len(shape) == 2 else None


def _of_product(
    text: SourceText,
    body: list[ast.stmt],
    node: ast.stmt,
    product: ast.BinOp,
    parents: Mapping[ast.AST, ast.AST],
    library: str,
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
    edits = [_einsum(text, one, product, parents, library) for one in reads]
    return [*removed, *(one for one in edits if one is not None)] if edits and None not in edits else []


def _einsum(
    text: SourceText, read: ast.expr, product: ast.BinOp, parents: Mapping[ast.AST, ast.AST], library: str
) -> Edit | None:
    """The edit of one call that takes the diagonal; None where something else reads the product."""
    above = parents.get(read)
    if isinstance(above, ast.Call) and isinstance(above.func, ast.Attribute) and above.args == [read]:
        call, owner = above, ast.unparse(above.func.value)
    elif isinstance(above, ast.Attribute) and isinstance(parents.get(above), ast.Call):
        call, owner = parents[above], library  # type: ignore[assignment]
    else:
        return None
    name = last_name(call.func) or ""
    if name not in _DIAGONALS or call.keywords or owner not in _ARRAYS or (above is not call and call.args):
        return None
    sides = [text.text[slice(*text.span(one))] for one in (product.left, product.right)]
    return (*text.span(call), f'{owner}.einsum("ij,ji->{_DIAGONALS[name]}", {", ".join(sides)})')
