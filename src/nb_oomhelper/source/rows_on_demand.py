"""Large arrays that are made row by row, written so that each row is computed when it is read."""

from __future__ import annotations

import ast
import copy
import itertools
import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nb_oomhelper.source.collecting import put_behind
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.demand_changes import is_changed, is_disturbed
from nb_oomhelper.source.demand_reads import Reads
from nb_oomhelper.source.reduced import Early
from nb_oomhelper.source.row_calls import PAIRS
from nb_oomhelper.source.row_functions import Find, FunctionReader, bound_in
from nb_oomhelper.source.row_sources import Rows, UnfitError
from nb_oomhelper.source.rows_apart import find_statement
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_edits
from nb_oomhelper.source.tree import last_name, names_bound, names_in, reads_by_name, walk
from nb_oomhelper.source.view_forms import named_alike

PART = "part"
"""What the numbers of the rows that are computed at a time are called."""
_STANDARD = """def standardized(x):
    x = x - x.mean(axis=1, keepdims=True)
    return x / {numpy}.linalg.norm(x, axis=1, keepdims=True)
"""
_TO_ITSELF = frozenset({"euclidean_distances", "nan_euclidean_distances", "cosine_distances", "pairwise_distances"})
_STACKS = frozenset({"stack", "array", "asarray", "vstack"})
_FEW, _MANY = 8, 1 << 21  # rows, and numbers: fewer do not matter
_FAR = 20  # statements from the one that failed on


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of what names stand for.

    Attributes:
        shapes: Shapes of arrays, by name or path.
        lists: Lists of arrays, by name, with how many there are.
        sparse: Sparse matrices that can be cut, by name, with their shapes.
        elementwise: Whether a function of the notebook, by its name, computes element by element.
        functions: Finds the function of the notebook that is called.
        find: The same by its name, as a syntax tree.
        taken: The user's names.
    """

    shapes: Mapping[str, tuple[int, ...]]
    lists: Mapping[str, int]
    sparse: Mapping[str, tuple[int, ...]]
    elementwise: Callable[[str], bool]
    functions: Find
    find: Callable[[str], Function | None]
    taken: Collection[str] = ()

    def without(self, name: str) -> Known:
        """Give the same without what a name stood for before.

        Args:
            name: The name.
        """
        return replace(
            self,
            shapes={path: one for path, one in self.shapes.items() if path.partition(".")[0] != name},
            lists={one: many for one, many in self.lists.items() if one != name},
            sparse={one: shape for one, shape in self.sparse.items() if one != name},
        )

    def with_array(self, name: str, shape: tuple[int, ...]) -> Known:
        """Give the same with an array that a name stands for from now on.

        Args:
            name: The name.
            shape: The array's; -1 where a number is not known.
        """
        return replace(self, shapes={**self.shapes, name: shape})


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemand:
    """What is written.

    Attributes:
        names: The arrays that are computed row by row then.
        edits: The places that change.
        read: All that the rest of the code does with them is known to need a few rows at a time.
        returned: The same, but that they are given back, or what is computed of them.
    """

    names: tuple[str, ...]
    edits: list[Edit]
    read: bool
    returned: bool = False


def rows_on_demand(text: SourceText, body: list[ast.stmt], line: int, known: Known) -> OnDemand | None:
    """Write large arrays so that their rows are computed when they are read: `nb_oomhelper.on_demand(...)`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
        known: What names stand for.

    Returns:
        None where neither what failed, nor what it reads, is made row by row.
    """
    found = None if reads_by_name(body) or PART in names_in(text.tree) else find_statement(body, line)
    if found is None:
        return None
    block, at, loops = found
    older, own, made, edits = names_bound(loops), bound_in(text.tree, body), dict[str, int](), list[Edit]()
    for number, node in enumerate(block[: at + _FAR]):
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(target, ast.Name) or (number < at and not _is_large(target.id, known)):
            continue
        others = names_in(node) - {target.id}
        if others & older:  # made anew in each turn, of what the last one made
            continue
        written = _written(text, own, node, known.without(target.id), made)  # type: ignore[arg-type]
        if written is not None:
            read = named_alike(body, others, of_frames=True) - {target.id}
            if is_disturbed(_after(body, node, loops), read):
                continue
        known = known.without(target.id)
        if written is not None:
            known = known.with_array(target.id, written.shape)
            made |= {target.id: number} if written.edits else {}
            edits += written.edits
    here = names_in(block[at])
    if not any(number == at or (number < at and name in here) for name, number in made.items()):
        return None
    later = _after(body, block[min(made.values())], loops)
    if is_changed(later, made) or any(isinstance(one, (ast.Global, ast.Nonlocal)) for one in walk(body)):
        return None
    reads = Reads(text.tree, known.find)
    few = reads.are_few(later, made)
    few = few and not any(_is_rounded(block[number]) for number in made.values())
    return OnDemand(names=tuple(made), edits=edits, read=few and not reads.returned, returned=few and reads.returned)


def _is_rounded(node: ast.stmt) -> bool:
    """Whether there are distances to itself, which scikit-learn sets to 0 only where it gets all rows as one object."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and last_name(one.func) in _TO_ITSELF]
    return any(len({ast.unparse(given) for given in one.args[:2]}) == 1 for one in calls)


def _after(body: list[ast.stmt], node: ast.stmt, loops: list[ast.stmt]) -> list[ast.stmt]:
    """What may run after a statement: what stands below it, the loops around it, and functions."""
    return [*_below(body, node.end_lineno or node.lineno), *loops]


def _below(body: Iterable[ast.AST], line: int) -> Iterator[ast.stmt]:
    """The outermost statements below a line, and functions."""
    for one in body:
        if isinstance(one, ast.stmt) and (one.lineno > line or isinstance(one, ast.FunctionDef)):
            yield one
        elif isinstance(one, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield from _below(ast.iter_child_nodes(one), line)


def _is_large(name: str, known: Known) -> bool:
    """Whether what was made before the error is worth it."""
    shape = known.shapes.get(name, ())
    return len(shape) > 1 and shape[0] >= _FEW and math.prod(shape) >= _MANY


@dataclass(frozen=True, slots=True)
class _Written:
    """The changes of a statement, and the shape of its array: -1 where a number is not known."""

    edits: list[Edit]
    shape: tuple[int, ...]


def _correlations(text: SourceText, node: ast.Assign, known: Known) -> _Written | None:
    """`np.corrcoef(x)`: products of rows that are standardized."""
    value = node.value
    given = value.args[0] if isinstance(value, ast.Call) and len(value.args) == 1 and not value.keywords else None
    if not isinstance(given, ast.Name) or last_name(value.func) != "corrcoef":  # type: ignore[attr-defined]
        return None
    first, shape = text.line_start(text.span(node)[0]), known.shapes.get(given.id, ())
    indent = text.text[first : text.span(node)[0]]
    if len(shape) != 2 or "standardized" in names_in(text.tree) or indent.strip():
        return None
    module = ast.unparse(value.func).rpartition(".")[0] or "numpy"  # type: ignore[attr-defined]
    function = textwrap.indent(_STANDARD.format(numpy=module), indent)
    products = f"standardized({given.id}[{PART}]) @ standardized({given.id}).T"
    whole = f"nb_oomhelper.on_demand(lambda {PART}: {products}, len({given.id}))"
    return _Written([(first, first, function), (*text.span(value), whole)], (shape[0], shape[0]))


def _written(
    text: SourceText, own: Collection[str], node: ast.Assign, known: Known, made: Collection[str]
) -> _Written | None:
    """The statement with some rows at a time; without changes where what it reads makes it so."""
    value, words = node.value, names_in(node.value)
    if (found := _correlations(text, node, known)) is not None:
        return found
    sized = {**known.shapes, **known.sparse}
    counts = {shape[0] for path, shape in sized.items() if path.partition(".")[0] in words and shape}
    counts |= {many for name, many in known.lists.items() if name in words}
    ways = itertools.product(sorted((one for one in counts if one >= _FEW), reverse=True), (False, True))
    for count, others_whole in ways:
        reader = _Reader(text, {}, (count, 0), known.elementwise, PART)
        reader.know_all(known, count, value)
        reader.own, reader.others_whole = own, others_whole
        rows = _rows(reader, value)
        if rows is None or rows.small or rows.ndim == 1 or rows.shared or reader.drawn or not reader.counts:
            continue
        shape = (count, *(-1 for _ in range((rows.ndim or 2) - 1)))
        if any(_is_left(text, one, reader.edits) for one in ast.walk(value)):
            continue
        if words & {*made} and not _makes_alone(reader, value, made):
            return _Written([], shape)
        large = [name for name, of in known.shapes.items() if math.prod(of) >= _MANY]
        early = Early(text, large, known.taken)  # else it would be computed for each part
        code, many = with_edits(text, value, [*reader.edits, *early.edits(value, reader.edits)]), reader.counts[0]
        many = next((f"{name}.shape[0]" for name in known.sparse if many == f"len({name})"), many)
        whole = (*text.span(value), f"nb_oomhelper.on_demand(lambda {PART}: {code}, {many})")
        lines = _lines_before(text, node, early.lines)
        return None if lines is None else _Written([*lines, whole], shape)
    return None


def _lines_before(text: SourceText, node: ast.stmt, lines: list[str]) -> list[Edit] | None:
    """The change that puts lines before a statement; None where it shares its own."""
    start = text.span(node)[0]
    first = text.line_start(start)
    indent = text.text[first:start]
    if lines and indent.strip():
        return None
    return [(first, first, "".join(f"{indent}{line}\n" for line in lines))] if lines else []


def _is_left(text: SourceText, node: ast.AST, edits: list[Edit]) -> bool:
    """Whether it makes all rows, as before: `cdist(x, y).max()`."""
    if not isinstance(node, ast.Call) or last_name(node.func) not in PAIRS:
        return False
    start, end = text.span(node)
    return not any(start <= edit[0] and edit[1] <= end for edit in edits)


def _rows(reader: FunctionReader, value: ast.expr) -> Rows | None:
    try:
        rows = reader.value(value)
        reader.check(value)
    except UnfitError:
        return None
    return rows


def _makes_alone(reader: _Reader, value: ast.expr, made: Collection[str]) -> bool:
    """Whether a part of an expression makes a large array, too, of something else: `a[:, None] + b - made`."""
    reader = copy.copy(reader)
    reader.edits, reader.counts = [], []
    parts = [one for one in ast.walk(value) if isinstance(one, ast.BinOp) and not names_in(one) & {*made}]
    found = [_rows(reader, one) for one in parts]
    return any(one is not None and not one.small and one.ndim != 1 for one in found)


class _Reader(FunctionReader):
    """Reads expressions; of lists of arrays, and of sparse matrices, as well."""

    others_whole = False
    _lists: Collection[str] = ()
    _sparse: Collection[str] = ()

    def know_all(self, known: Known, count: int, value: ast.expr) -> None:
        """Note what names stand for; of sparse matrices only what makes arrays of them is read."""
        of_pairs = isinstance(value, ast.Call) and last_name(value.func) in PAIRS
        self._shapes = {**known.shapes, **(known.sparse if of_pairs else {})}
        self._lists = {name for name, many in known.lists.items() if many == count}
        self._sparse = {name for name, shape in known.sparse.items() if shape[0] == count}
        self.functions = known.functions
        self.leave({*known.lists, *(() if of_pairs else known.sparse)})

    def _of_call(self, node: ast.Call) -> Rows | None:
        name, owner = last_name(node.func), getattr(node.func, "value", None)
        if name == "toarray" and isinstance(owner, ast.Name) and owner.id in self._sparse and not node.args:
            self._take(node, f"{owner.id}.shape[0]", put_behind(self.text, owner, f"[{self.part}]"))
            return Rows(2)
        given = node.args[0] if len(node.args) == 1 else None
        if name in _STACKS and isinstance(given, ast.Name) and given.id in self._lists and isinstance(owner, ast.Name):
            self._same(*(one.value for one in node.keywords))
            if {one.arg for one in node.keywords} - {"dtype"}:
                raise UnfitError
            each = f"[{given.id}[at] for at in {self.part}]"
            self._take(node, f"len({given.id})", [(*self.text.span(given), each)])
            return Rows()
        return super()._of_call(node)

    def rows_given(self, arguments: Mapping[str, ast.expr]) -> dict[str, Rows | None]:
        """As of `FunctionReader`; where `others_whole`, of the first argument alone, and the others are there whole."""
        if not self.others_whole:
            return super().rows_given(arguments)
        first, *others = arguments
        self._same(*(arguments[name] for name in others))
        return {first: self.value(arguments[first])} | dict.fromkeys(others)

    def _take(self, node: ast.Call, count: str, edits: list[Edit]) -> None:
        """Let a call get a part, and go as one that is known."""
        self.edits += edits
        self.counts.append(count)
        self.called.append(node)
