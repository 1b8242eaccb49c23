"""Operands of expressions that are computed row by row: where their rows lie, and how to take some of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import last_name

REDUCING = frozenset(
    {"sum", "mean", "std", "var", "min", "max", "prod", "any", "all", "argmin", "argmax", "median", "ptp", "norm"}
    | {"nansum", "nanmean", "nanmin", "nanmax", "quantile", "percentile", "logsumexp", "count_nonzero"}
)
_FEW = 100  # values of a row that are chosen


class UnfitError(Exception):
    """Something that needs other rows than its own, or of which nobody can tell."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A value that has a row for each row of its sources.

    Attributes:
        ndim: The number of its axes, rows among them; None where it is unknown.
        small: Each row has one value, or a few that were chosen.
        view: It looks into a larger one.
    """

    ndim: int | None = None
    small: bool = False
    view: bool = False


class Operands:
    """Reads operands, and notes where their sources are to be cut.

    Attributes:
        text: The source.
        part: The name of the numbers of the rows of one part.
        env: Names that stand for rows by now.
        edits: What makes the sources a part of theirs.
        counts: What tells how many rows there are, as code.
    """

    def __init__(
        self,
        text: SourceText,
        shapes: Mapping[str, tuple[int, ...]],
        refused: tuple[int, ...],
        elementwise: Callable[[str], bool],
        part: str,
    ) -> None:
        self.text, self.part = text, part
        self._shapes, self._length, self._elementwise = shapes, refused[0], elementwise
        self._ndim = len(refused)
        self.env: dict[str, Rows] = {}
        self.edits: list[Edit] = []
        self.counts: list[str] = []

    def is_small(self, rows: Rows) -> bool:
        """Tell whether all rows of a value together may be kept.

        Args:
            rows: The value.
        """
        return rows.small or (rows.ndim is not None and rows.ndim < self._ndim)

    def value(self, node: ast.expr) -> Rows | None:
        """Tell what an expression gives: rows, or None where it is the same for all rows.

        Raises:
            UnfitError: It needs more than its own row.
        """
        read: Callable[[ast.expr], Rows | None] = getattr(self, f"_of_{type(node).__name__.lower()}", self._same)
        return read(node)

    def _same(self, *nodes: ast.AST) -> Rows | None:
        """What is the same for all rows."""
        if any(map(self._knows, nodes)):
            raise UnfitError
        return None

    def _of_name(self, node: ast.Name) -> Rows | None:
        return self.env.get(node.id) or self._source(node)

    def _of_attribute(self, node: ast.Attribute) -> Rows | None:
        found = self._source(node) if node.attr not in ("T", "shape", "size") else None
        return found or self._same(node)

    def _source(self, node: ast.expr) -> Rows | None:
        """An array of tables, say, that has as many rows as what was refused."""
        shape = self._shapes.get(ast.unparse(node))
        if shape is None or len(shape) < 2 or shape[0] != self._length:
            return None
        return self._cut(node, len(shape))

    def _cut(self, node: ast.expr, ndim: int | None) -> Rows:
        if not isinstance(node, (ast.Name, ast.Attribute)):
            raise UnfitError  # it would be computed for each part
        written = self.text.text[slice(*self.text.span(node))]
        self.edits += put_behind(self.text, node, f"[{self.part}]")
        self.counts.append(f"len({written})")
        return Rows(ndim)

    def _of_subscript(self, node: ast.Subscript) -> Rows | None:
        index = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if _is_new_axis(index[0]):
            return self._same(node)
        new = [_is_new_axis(one) for one in index]
        shape = self._shapes.get(ast.unparse(node.value))
        if _is_whole(index[0]) and any(new) and not self._knows(node.value):
            taken = sum(not (isinstance(one, ast.Slice) or is_new) for one, is_new in zip(index, new, strict=True))
            self._same(node.value)
            ndim = None if shape is None else len(shape)
            if shape is not None and shape[0] != self._length:
                raise UnfitError
            rows = self._cut(node.value, ndim)
            return rows if ndim is None else Rows(ndim + sum(new) - taken)
        inside = self.value(node.value)
        if inside is None:  # `data[indexes]`
            chosen = self.value(node.slice) if len(index) == 1 and not isinstance(node.slice, ast.Slice) else None
            if chosen is None:
                return self._same(node)
            return Rows(None if shape is None or chosen.ndim is None else chosen.ndim + len(shape) - 1)
        if not _is_whole(index[0]):
            raise UnfitError
        for one in index[1:]:
            self._same(one)
        taken = sum(not isinstance(one, ast.Slice) and not is_new for one, is_new in zip(index, new, strict=True))
        ndim = None if inside.ndim is None else inside.ndim + sum(new) - taken
        chosen_few = len(index) == 2 and isinstance(index[1], ast.Slice) and _is_short(index[1])
        return Rows(ndim, small=ndim == 1 or chosen_few or inside.small, view=True)

    def _knows(self, node: ast.AST) -> bool:
        return any(isinstance(one, ast.Name) and one.id in self.env for one in ast.walk(node))

    def _of_binop(self, node: ast.BinOp) -> Rows | None:
        if isinstance(node.op, ast.MatMult):
            return self._product(node.left, node.right)
        return self._together([node.left, node.right])

    def _product(self, left: ast.expr, right: ast.expr) -> Rows | None:
        rows = self.value(left)
        self._same(right)
        return rows and Rows(rows.ndim if len(self._shapes.get(ast.unparse(right), (0, 0))) > 1 else 1, small=False)

    def _of_unaryop(self, node: ast.UnaryOp) -> Rows | None:
        return self.value(node.operand)

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
            if one is None and (shape := self._shapes.get(ast.unparse(node))) and len(shape) >= (ndim or 1):
                if len(shape) != ndim or shape[0] not in (1, self._length):
                    raise UnfitError
                if shape[0] != 1:
                    self._cut(node, ndim)
            elif (
                one is None
                and not isinstance(node, (ast.Name, ast.Attribute))
                and _may_have_rows(node, self._shapes, self._length)
            ):
                raise UnfitError
        return Rows(ndim, small=ndim == 1 or all(one.small for one in rows))


def _may_have_rows(node: ast.AST, shapes: Mapping[str, tuple[int, ...]], length: int) -> bool:
    """Whether something that is the same for all rows may have as many rows itself, as `np.roll(a, 1)` has."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and _is_new_axis(node.slice.elts[0]):
        return False
    if isinstance(node, ast.Attribute) and node.attr in ("T", "shape", "size", "ndim"):
        return False
    if isinstance(node, ast.Call) and last_name(node.func) in REDUCING | {"len", "float", "int"}:
        axes = [*node.args, *(one.value for one in node.keywords if one.arg == "axis")]
        if all(not isinstance(one, ast.Constant) or one.value == 0 for one in axes):
            return False
    if isinstance(node, (ast.Name, ast.Attribute)):
        return shapes.get(ast.unparse(node), (0,))[:1] == (length,)
    return any(_may_have_rows(one, shapes, length) for one in ast.iter_child_nodes(node))


def _is_new_axis(node: ast.expr) -> bool:
    return (isinstance(node, ast.Constant) and node.value is None) or ast.unparse(node) in ("np.newaxis", "newaxis")


def _is_whole(node: ast.expr) -> bool:
    return isinstance(node, ast.Slice) and node.lower is None and node.upper is None and node.step is None


def _is_short(node: ast.Slice) -> bool:
    """Whether it takes a few values, as far as can be read: `1:6`, `:k + 1`."""
    end = node.upper
    if isinstance(end, ast.BinOp) and isinstance(end.op, (ast.Add, ast.Sub)) and isinstance(end.right, ast.Constant):
        end = end.left
    few = isinstance(end, ast.Constant) and isinstance(end.value, int) and 0 < end.value <= _FEW
    return node.step is None and (few or isinstance(end, (ast.Name, ast.Attribute)))
