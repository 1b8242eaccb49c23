"""Which expressions are computed row by row: each row of what they give needs one row of what they are made from."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace

from nb_oomhelper.source.row_calls import (
    ALONG_LAST,
    ELEMENTWISE,
    FFT,
    PAIRS,
    REDUCING,
    SAME_SHAPE,
    SHAPED,
    is_module,
)
from nb_oomhelper.source.row_operands import Operands
from nb_oomhelper.source.row_sources import Rows, UnfitError, is_plain_number, shape_of
from nb_oomhelper.source.tree import last_name, walk

_AXIS_AT = dict.fromkeys(
    [*FFT, "quantile", "percentile", "norm", "partition", "argpartition", "diff"], 2
)  # arguments before it
_OF_ALL = frozenset({"cumsum", "softmax", "log_softmax"})  # where no axis is given
_OF_THE_DATA = frozenset({"seuclidean", "mahalanobis"})  # metrics that depend on all rows
_LOOKING = frozenset({"real", "imag", "conj"})  # what they give may look into what they get


class RowReader(Operands):
    """Reads expressions, calls among them."""

    def _of_call(self, node: ast.Call) -> Rows | None:
        name = last_name(node.func) or ""
        method = isinstance(node.func, ast.Attribute) and not is_module(node.func.value)
        given = {one.arg: one.value for one in node.keywords}
        if None in given or "out" in given or any(isinstance(one, ast.Starred) for one in node.args):
            return self._same(node)
        operands = [node.func.value, *node.args] if method else list(node.args)  # type: ignore[attr-defined]
        if name in SHAPED and isinstance(node.func, ast.Attribute):
            return self._drawn(node, given)
        if not operands:
            return self._same(node)
        if name == "outer" and isinstance(node.func, ast.Attribute):
            return self._outer(node)
        if name in PAIRS and not method:
            return self._pairs(node)
        if name in ("dot", "matmul") and len(operands) == 2 and not given:
            return self._product(operands[0], operands[1])
        if name == "einsum" and not given:
            return self._einsum(node)
        if name in (ELEMENTWISE if not method else SAME_SHAPE | {"abs", "round"}):
            rows = self._together([*operands, *given.values()])
            return rows and replace(rows, shared=name in _LOOKING)
        if not method and isinstance(node.func, ast.Name) and self.elementwise(name):
            return self._together([*operands, *given.values()])
        return self._along(node, name, operands, given)

    def _along(
        self, node: ast.Call, name: str, operands: list[ast.expr], given: Mapping[str | None, ast.expr]
    ) -> Rows | None:
        """What works along one axis, which must not be that of the rows."""
        before = len(self.edits), len(self.counts)
        rows = self.value(operands[0]) if name in REDUCING | ALONG_LAST | FFT else None
        if rows is None:
            return self._same(node)
        self._same(*operands[1:], *given.values())
        if any(not is_plain_number(given[one]) for one in ("prepend", "append") if one in given):
            raise UnfitError  # it may have as many rows
        axis = given.get("axis", given.get("dim"))
        if axis is None and len(operands) > _AXIS_AT.get(name, 1):
            if name in FFT:
                raise UnfitError
            axis = operands[-1]
        if (axis is None and name in REDUCING | _OF_ALL) or not _is_beyond_first(axis, rows.ndim):
            if self._knows(operands[0]):
                raise UnfitError
            del self.edits[before[0] :], self.counts[before[1] :]  # it is a whole that is there already
            return None
        if name not in REDUCING or _is_true(given.get("keepdims")):
            return Rows(rows.ndim)
        ndim = None if rows.ndim is None else rows.ndim - 1
        return Rows(ndim, small=ndim in (None, 1))

    def _drawn(self, node: ast.Call, given: Mapping[str | None, ast.expr]) -> Rows | None:
        """Random numbers, a row for each repetition: `size=(1000, len(data))`."""
        size = given.get("size", node.args[-1] if node.args else None)
        self._same(node)
        if not isinstance(size, ast.Tuple) or len(size.elts) < 2:
            return None
        first = size.elts[0]
        self.counts.append(self.text.text[slice(*self.text.span(first))])
        self.edits.append((*self.text.span(first), f"len({self.part})"))
        self.drawn.append(node)
        whole = {"replace", "shuffle", "axis", *({"dtype"} if last_name(node.func) in ("integers", "randint") else ())}
        if whole & given.keys() or (isinstance(first, ast.Constant) and first.value != self._length):
            raise UnfitError  # other numbers would be drawn
        chosen_of = shape_of(node.args[0], self._shapes) if last_name(node.func) == "choice" and node.args else None
        return Rows(len(size.elts) + len(chosen_of or (0,)) - 1)

    def _outer(self, node: ast.Call) -> Rows | None:
        self._same(node)
        if len(node.args) != 2 or node.keywords:
            return None
        self._cut(node.args[0], 1)
        return Rows(2)

    def _pairs(self, node: ast.Call) -> Rows | None:
        told = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
        if not node.args or len(node.args) > 3 or told & _OF_THE_DATA:
            raise UnfitError
        self._same(*node.args[1:], *node.keywords)
        alone = len(node.args) == 1 and not {"Y", "XB"} & {one.arg for one in node.keywords}
        if self._knows(node.args[0]):
            rows = self.value(node.args[0])
            if alone or rows is None or rows.ndim not in (2, None):
                raise UnfitError
            return Rows(2)
        written = self.text.text[slice(*self.text.span(node.args[0]))]
        self._cut(node.args[0], 2)
        if alone:
            place = self.text.span(node.args[0])[1]
            self.edits[-1] = (place, place, f"[{self.part}], {written}")
        return Rows(2)

    def _einsum(self, node: ast.Call) -> Rows | None:
        rule = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        taken, arrow, made = rule.replace(" ", "").partition("->") if isinstance(rule, str) else ("", "", "")
        letters = taken.split(",")
        if not arrow or len(letters) != len(node.args) - 1 or not made.isalpha():
            return self._same(node)
        read = [(self.value(one), names) for one, names in zip(node.args[1:], letters, strict=True)]
        with_rows = [names for rows, names in read if rows is not None]
        if not with_rows:
            return None
        others = [names for rows, names in read if rows is None] + [names[1:] for names in with_rows]
        if any(names[:1] != made[0] for names in with_rows) or any(made[0] in names for names in others):
            raise UnfitError
        return Rows(len(made), small=len(made) == 1)


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _is_beyond_first(axis: ast.expr | None, ndim: int | None) -> bool:
    """Whether an axis is none of the rows; where none is given, the last one."""
    if axis is None:
        return ndim is not None and ndim > 1
    if isinstance(axis, ast.Tuple):
        return bool(axis.elts) and all(_is_beyond_first(one, ndim) for one in axis.elts)
    try:
        number = ast.literal_eval(axis)
    except ValueError:
        return False
    if not isinstance(number, int) or isinstance(number, bool):
        return False
    return number > 0 or (number < 0 and ndim is not None and ndim + number > 0)


def computes_elementwise(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function computes each element of what it gives from those at the same place.

    Args:
        node: The function.
    """
    plain = (ast.Assign, ast.Return, ast.Expr)
    if not all(isinstance(one, plain) for one in node.body) or not isinstance(node.body[-1], ast.Return):
        return False
    for one in walk(node.body):
        if isinstance(one, (ast.Subscript, ast.Lambda, ast.comprehension, ast.MatMult, ast.Await, ast.Yield)):
            return False
        if isinstance(one, ast.Call) and not _is_elementwise(one):
            return False
        if isinstance(one, ast.Attribute) and one.attr in REDUCING | {"T", "shape", "size"}:
            return False
    return True


def _is_elementwise(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id == "map" and isinstance(call.args[0], ast.Attribute) and call.args[0].attr in ELEMENTWISE
    changed = {"out", "copy", "where"} & {one.arg for one in call.keywords}
    return isinstance(call.func, ast.Attribute) and call.func.attr in ELEMENTWISE and not changed
