"""What is computed row by row: where its rows lie, and how to take some of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.row_calls import ELEMENTWISE, is_module, is_quiet
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import last_name, names_in


class UnfitError(Exception):
    """Something that needs other rows than its own, or of which nobody can tell."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A value that has a row for each row of its sources.

    Attributes:
        ndim: The number of its axes, rows among them; None where it is unknown.
        small: Each row has one value, or a few that were chosen.
        view: It looks into a larger one.
        shared: It is an array that was there before, or may look into one.
    """

    ndim: int | None = None
    small: bool = False
    view: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Library:
    """How a library's arrays are written about.

    Attributes:
        numbers: Gives the numbers up to one.
        parts: The numbers of the rows in parts, by how many rows and parts there are.
        joined: The function that puts parts together.
        copied: The method that copies.
        given_back: The function that makes an array of what a function gives back.
    """

    numbers: str
    parts: str
    joined: str
    copied: str
    given_back: str


NUMPY = Library(
    numbers="numpy.arange",
    parts="numpy.array_split(numpy.arange({count}), {parts})",
    joined="numpy.concatenate",
    copied=".copy()",
    given_back="numpy.array",
)
TORCH = Library(
    numbers="torch.arange",
    parts="torch.arange({count}).chunk({parts})",
    joined="torch.cat",
    copied=".clone()",
    given_back="torch.clone",
)


class Sources:
    """Knows which names stand for rows, and notes where arrays are to be cut.

    Attributes:
        text: The source.
        part: The name of the numbers of the rows of one part.
        env: Names that stand for rows by now.
        edits: What makes the sources a part of theirs.
        counts: What tells how many rows there are, as code.
        elementwise: Whether a function of the notebook, by its name, computes element by element.
        drawn: Calls that draw random numbers for the rows of a part.
        called: Calls of functions of the notebook that compute row by row.
        may_be_few: There may be fewer rows than parts.
        library: Whose arrays they are.
        widest: The most axes that any of the rows had.
    """

    library = NUMPY

    def __init__(
        self,
        text: SourceText,
        shapes: Mapping[str, tuple[int, ...]],
        refused: tuple[int, ...],
        elementwise: Callable[[str], bool],
        part: str,
    ) -> None:
        self.text, self.part = text, part
        self._shapes, self._length, self.elementwise = dict(shapes), refused[0], elementwise
        self._ndim = len(refused)
        self._unknown: set[str] = set()
        self.env: dict[str, Rows] = {}
        self.edits: list[Edit] = []
        self.counts: list[str] = []
        self.drawn: list[ast.Call] = []
        self.called: list[ast.Call] = []
        self.may_be_few = False
        self.widest = 0

    def check(self, node: ast.AST) -> None:
        """See that code gives the same for each part, however often it runs.

        Raises:
            UnfitError: It calls something that nobody knows, or draws more than the random numbers of its rows.
        """
        told = len(self.drawn) < 2 and (not self.drawn or len(set(self.counts)) == 1)
        if not told or not is_quiet(node, [*self.drawn, *self.called], self.elementwise):
            raise UnfitError

    def is_users(self, call: ast.Call) -> bool:
        """Tell whether a call may be of a function of the notebook, whatever its name.

        Args:
            call: The call.
        """
        return isinstance(call.func, ast.Name) and self.elementwise(call.func.id)

    def leave(self, names: Iterable[str]) -> None:
        """Let nothing go together with names that nobody knows how to cut.

        Args:
            names: The names.
        """
        self._unknown |= {*names}

    def bind(self, name: str, value: ast.expr) -> None:
        """Note that a name is bound anew before the loop.

        Args:
            name: The name.
            value: What it stands for then.
        """
        count = _numbered(value, self._shapes)
        self._shapes.pop(name, None)
        if count is not None:
            self._shapes[name] = (count,)
        plain = count is not None or is_plain_number(value)
        self._unknown = self._unknown - {name} if plain else self._unknown | {name}

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
        rows = read(node)
        self.widest = max(self.widest, (rows and rows.ndim) or 0)
        return rows

    def _same(self, *nodes: ast.AST) -> Rows | None:
        """What is the same for all rows."""
        if any(map(self._knows, nodes)):
            raise UnfitError
        return None

    def _knows(self, node: ast.AST) -> bool:
        return any(isinstance(one, ast.Name) and one.id in self.env for one in ast.walk(node))

    def _source(self, node: ast.expr) -> Rows | None:
        """An array of tables, say, that has as many rows as what was refused."""
        shape = self._shapes.get(ast.unparse(node))
        if shape is None or len(shape) < 2 or shape[0] != self._length:
            return None
        return self._cut(node, len(shape))

    def _cut(self, node: ast.expr, ndim: int | None) -> Rows:
        inner = _operand(node)
        if inner is not None:
            return self._cut(inner, ndim)
        if not isinstance(node, (ast.Name, ast.Attribute)) or any(isinstance(one, ast.Call) for one in ast.walk(node)):
            raise UnfitError  # all of it would be computed for each part
        shape = shape_of(node, self._shapes)
        if self._unknown & names_in(node) or shape is None or shape[:1] != (self._length,):
            raise UnfitError  # without a shape it may be a list, or a table with an index of its own
        written = self.text.text[slice(*self.text.span(node))]
        self.edits += put_behind(self.text, node, f"[{self.part}]")
        self.counts.append(f"len({written})")
        return Rows(ndim, shared=True)


def shape_of(node: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Give the shape of an array that is there, also turned, or of its cosine, say; None where it is not known.

    Args:
        node: The array.
        shapes: The known shapes, by what is written for them.
    """
    if isinstance(node, ast.Attribute) and node.attr == "T":
        shape = shape_of(node.value, shapes)
        return None if shape is None else shape[::-1]
    inner = _operand(node)
    if inner is not None:
        return shape_of(inner, shapes)
    return shapes.get(ast.unparse(node)) if isinstance(node, (ast.Name, ast.Attribute)) else None


def _operand(node: ast.expr) -> ast.expr | None:
    """What NumPy computes element by element of one array: `lat` of `np.cos(lat)`."""
    if not isinstance(node, ast.Call) or len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
        return None
    known = (
        isinstance(node.func, ast.Attribute)
        and is_module(node.func.value)
        and node.func.attr in ELEMENTWISE - {"where"}
    )
    return node.args[0] if known else None


def _numbered(node: ast.expr, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many numbers there are in `np.arange(len(x))`, `np.arange(x.shape[0])`; None of anything else."""
    known = isinstance(node, ast.Call) and last_name(node.func) == "arange" and len(node.args) == 1
    of = node.args[0] if known else None  # type: ignore[attr-defined]
    if isinstance(of, ast.Call) and ast.unparse(of.func) == "len" and len(of.args) == 1:
        shape = shape_of(of.args[0], shapes)
    elif isinstance(of, ast.Subscript) and isinstance(of.value, ast.Attribute) and of.value.attr == "shape":
        shape = shape_of(of.value.value, shapes) if ast.unparse(of.slice) == "0" else None
    else:
        return None
    return shape[0] if shape else None


def is_plain_number(node: ast.expr) -> bool:
    """Tell whether something is a number as far as can be read: `3`, `-0.5`, `len(x)`.

    Args:
        node: The code.
    """
    if isinstance(node, ast.UnaryOp):
        return is_plain_number(node.operand)
    if isinstance(node, ast.BinOp):
        return is_plain_number(node.left) and is_plain_number(node.right)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("len", "float", "int")
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    return isinstance(node, ast.Constant) and type(node.value) in (int, float, bool)
