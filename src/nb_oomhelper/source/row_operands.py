"""Operands of expressions that are computed row by row."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nb_oomhelper.source.row_calls import REDUCING, is_module
from nb_oomhelper.source.row_sources import Rows, Sources, UnfitError, is_plain_number, shape_of
from nb_oomhelper.source.tree import last_name, names_in

_MANY = 99  # axes, where nobody can tell
_FEW = 100  # values of a row that are chosen
_SQUARE = frozenset(
    {"eye", "identity", "tri", "tril", "triu", "diag", "outer", "full", "ones", "zeros", "tile", "repeat"}
)

_FLAT = frozenset({"arange", "linspace", "sort", "argsort", "cumsum", "array", "asarray", "diagonal", "ravel"})


class Operands(Sources):
    """Reads operands."""

    def _of_name(self, node: ast.Name) -> Rows | None:
        return self.env.get(node.id) or self._source(node)

    def _of_attribute(self, node: ast.Attribute) -> Rows | None:
        found = self._source(node) if node.attr not in ("T", "shape", "size") else None
        return found or self._same(node)

    def _of_subscript(self, node: ast.Subscript) -> Rows | None:
        index = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if _is_new_axis(index[0]):
            return self._same(node)
        new = [_is_new_axis(one) for one in index]
        shape = shape_of(node.value, self._shapes)
        if _is_whole(index[0]) and any(new) and not self._knows(node.value) and not _is_computed(node.value):
            taken = sum(not (isinstance(one, ast.Slice) or is_new) for one, is_new in zip(index, new, strict=True))
            self._same(node.value)
            ndim = None if shape is None else len(shape)
            if shape is not None and shape[0] != self._length:
                raise UnfitError
            rows = self._cut(node.value, ndim)
            return rows if ndim is None else Rows(ndim + sum(new) - taken, shared=True)
        inside = self.value(node.value)
        if inside is None:  # `data[indexes]`
            picked = self.value(node.slice) if len(index) == 1 and not isinstance(node.slice, ast.Slice) else None
            if picked is None:
                return self._same(node)
            return Rows(None if shape is None or picked.ndim is None else picked.ndim + len(shape) - 1)
        if not _is_whole(index[0]):
            raise UnfitError
        for one in index[1:]:
            self._same(one)
        chosen = [one for one, is_new in zip(index, new, strict=True) if not isinstance(one, ast.Slice) and not is_new]
        known = all(is_plain_number(one) for one in chosen)  # else it may be a list of columns
        ndim = None if inside.ndim is None or not known else inside.ndim + sum(new) - len(chosen)
        chosen_few = len(index) == 2 and isinstance(index[1], ast.Slice) and _is_short(index[1])
        return Rows(ndim, small=ndim == 1 or chosen_few or inside.small, view=True, shared=inside.shared)

    def _of_binop(self, node: ast.BinOp) -> Rows | None:
        if isinstance(node.op, ast.MatMult):
            return self._product(node.left, node.right)
        return self._together([node.left, node.right])

    def _product(self, left: ast.expr, right: ast.expr) -> Rows | None:
        rows = self.value(left)
        self._same(right)
        if rows is not None and rows.ndim == 1:
            raise UnfitError  # the rows would be added up
        if isinstance(right, ast.Name) and right.id in self._unknown:
            return rows and Rows()
        if rows is None or len(self._shapes.get(ast.unparse(right), (0, 0))) > 1:
            return rows and Rows(rows.ndim)
        return Rows(None if rows.ndim is None else rows.ndim - 1, small=rows.ndim == 2)

    def _of_unaryop(self, node: ast.UnaryOp) -> Rows | None:
        rows = self.value(node.operand)
        return rows and Rows(rows.ndim, rows.small)

    def _of_compare(self, node: ast.Compare) -> Rows | None:
        return self._together([node.left, *node.comparators])

    def _together(self, nodes: list[ast.expr]) -> Rows | None:
        """Operands that go together element by element."""
        read = [(node, self.value(node)) for node in nodes]
        rows = [one for _, one in read if one is not None]
        if not rows:
            return None
        known = [one.ndim for one in rows if one.ndim is not None]
        ndim = max(known) if len(known) == len(rows) else None
        if known and min(known) != max(known):
            raise UnfitError  # the shorter one's rows would lie along another axis
        for node, one in read:
            if one is None and self._unknown.intersection(names_in(node)):
                raise UnfitError
            shape = shape_of(node, self._shapes)
            if one is None and shape and len(shape) >= (ndim or 1):
                if len(shape) != ndim or shape[0] not in (1, self._length):
                    raise UnfitError
                if shape[0] != 1:
                    self._cut(node, ndim)
            elif one is None and shape is None and not isinstance(node, ast.Name) and self._may_meet(node, ndim):
                raise UnfitError
        return Rows(ndim, small=ndim == 1 or all(one.small for one in rows))

    def _may_meet(self, node: ast.expr, ndim: int | None) -> bool:
        return _may_have_rows(node, self._shapes, self._length, ndim)


def _may_have_rows(node: ast.AST, shapes: Mapping[str, tuple[int, ...]], length: int, ndim: int | None) -> bool:
    """Whether something that is the same for all rows may have as many rows itself, as `np.roll(a, 1)` has.

    Where what it meets has one axis only, a value for each column would lie along the rows, too; and nothing may have
    more axes than that.
    """
    flat = ndim in (None, 1)
    if isinstance(node, ast.Subscript):
        first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
        if _is_new_axis(first) and ndim not in (None, 1):
            return _axes_of(node, shapes) > ndim
    if isinstance(node, ast.Attribute) and node.attr in ("shape", "size", "ndim"):
        return False
    if isinstance(node, ast.Attribute) and node.attr == "T":
        shape = shape_of(node, shapes) or (length,)
        return shape[0] == length or (ndim is not None and len(shape) > ndim)
    if isinstance(node, ast.Call):
        name = last_name(node.func)
        if name in ("len", "float", "int"):
            return False
        if name in REDUCING and (told := _is_reduced(node, flat=flat)) is not None:
            return not told
        if name in _SQUARE or (flat and name in _FLAT):
            return True
    if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in shapes:
        shape = shapes[ast.unparse(node)]
        return shape[:1] == (length,) or (ndim is not None and len(shape) > ndim)
    return any(_may_have_rows(one, shapes, length, ndim) for one in ast.iter_child_nodes(node))


def _axes_of(node: ast.Subscript, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many axes something has that gets new ones; of a name that nobody knows 0, which may be a number's."""
    index = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    taken = sum(not _is_new_axis(one) and not isinstance(one, ast.Slice) for one in index)
    if isinstance(node.value, (ast.Name, ast.Attribute)) and shape_of(node.value, shapes) is None:
        return 0
    axes = _axes_made(node.value, shapes)
    return _MANY if axes is None else axes + sum(map(_is_new_axis, index)) - taken


def _axes_made(node: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many axes something has that is computed of known arrays, as `(b ** 2).sum(1)`; None where nobody knows."""
    if isinstance(node, ast.Constant):
        return 0
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.MatMult):
        sides = _axes_made(node.left, shapes), _axes_made(node.right, shapes)
        return None if sides[0] is None or sides[1] is None else max(sides[0], sides[1])
    if isinstance(node, ast.Call) and last_name(node.func) in REDUCING:
        given = [*node.args, *(one.value for one in node.keywords if one.arg == "axis")]
        method = isinstance(node.func, ast.Attribute) and not is_module(node.func.value)
        given = [node.func.value, *given] if method else given  # type: ignore[attr-defined]
        one_axis = len(given) == 2 and isinstance(given[1], ast.Constant) and type(given[1].value) is int
        axes = (
            _axes_made(given[0], shapes)
            if one_axis and len(given) == len(node.args) + len(node.keywords) + method
            else None
        )
        return None if axes is None else axes - 1
    shape = shape_of(node, shapes)
    return None if shape is None else len(shape)


def _is_reduced(call: ast.Call, *, flat: bool) -> bool | None:
    """Whether nothing of the rows is left of a reduction; None where that depends on what is reduced."""
    method = isinstance(call.func, ast.Attribute) and not is_module(call.func.value)
    axes = [*call.args[0 if method else 1 :], *(one.value for one in call.keywords if one.arg in ("axis", "keepdims"))]
    if not axes:
        return True
    if any(isinstance(one, ast.Subscript) for one in ast.walk(call)):
        return None  # its first axis may be a new one
    return True if not flat and all(isinstance(one, ast.Constant) and one.value == 0 for one in axes) else None


def _is_new_axis(node: ast.expr) -> bool:
    return (isinstance(node, ast.Constant) and node.value is None) or ast.unparse(node) in ("np.newaxis", "newaxis")


def _is_computed(node: ast.expr) -> bool:
    """Whether an array is made there of each row, as `(a ** 2).sum(1)`, and none that is there is cut."""
    if isinstance(node, ast.BinOp):
        return True
    return isinstance(node, ast.Call) and last_name(node.func) in REDUCING


def _is_whole(node: ast.expr) -> bool:
    return isinstance(node, ast.Slice) and node.lower is None and node.upper is None and node.step is None


def _is_short(node: ast.Slice) -> bool:
    """Whether it takes a few values, as far as can be read: `1:6`, `:k + 1`."""
    end = node.upper
    if isinstance(end, ast.BinOp) and isinstance(end.op, (ast.Add, ast.Sub)) and isinstance(end.right, ast.Constant):
        end = end.left
    few = isinstance(end, ast.Constant) and isinstance(end.value, int) and 0 < end.value <= _FEW
    return node.step is None and (few or isinstance(end, (ast.Name, ast.Attribute)))
