"""What a cell makes of a file's table, written for its parts: `in_parts(…, pd.read_csv(path, chunksize=n))`."""

from __future__ import annotations

import ast
import copy
import textwrap
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frame_ends import End
from nb_oomhelper.source.frame_kinds import Reader, kind_of
from nb_oomhelper.source.frame_methods import agg_of
from nb_oomhelper.source.frames_apart import agg_written, given_of, in_brackets
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.rows_apart import FUNCTION, is_quiet
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.table_reads import TableRead
from nb_oomhelper.source.text_edits import with_argument, with_edits
from nb_oomhelper.source.tree import is_long_text, names_bound, names_in, reads_by_name, walk

_PASSES = 6  # of the file, at most
_ONCE = (
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.NamedExpr,
    ast.Await,
    ast.IfExp,
    ast.BoolOp,
)
_SIMPLE = (ast.Assign, ast.Expr, ast.AugAssign)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadsApart:
    """What is written.

    Attributes:
        gone: The names that are not there afterwards.
        edits: The places that change.
    """

    gone: frozenset[str]
    edits: list[Edit]


def reads_apart(
    text: SourceText,
    read: TableRead,
    rows: int,
    barred: Collection[str],
    function: Callable[[str], Function | None],
) -> ReadsApart | None:
    """Write what a cell makes of a table as passes over the file's parts.

    Args:
        text: The source.
        read: The statement that reads the table.
        rows: How many rows a part has.
        barred: Names of what may have something for each of the table's rows.
        function: Gives a function of the notebook's that a name stands for, or None.

    Returns:
        None where it cannot be written.
    """
    if (
        FUNCTION in text.text
        or read.reader in text.text
        or reads_by_name(read.block)
        or any(map(is_long_text, walk(read.block)))
    ):
        return None
    reader = Reader(by=frozenset(), barred=barred, function=function, names={read.name: "rows"})
    writer = _Writer(text=text, read=read, reader=reader)
    try:
        for node in read.after:
            writer.write(node)
    except (UnfitError, ValueError):
        return None
    if not 0 < writer.passes <= _PASSES:
        return None
    call = with_edits(text, read.call, with_argument(text, read.call, f"chunksize={rows:_}"))
    written = f"def {read.reader}():\n    return {call}"
    return ReadsApart(gone=frozenset(writer.made()), edits=[(*text.span(read.node), written), *writer.edits])


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Writes one statement after another.

    Attributes:
        text: The source.
        read: The statement that reads the table.
        reader: Tells what code gives for a part of it.
        some: Statements that are done with each part.
        edits: The places that change.
        passes: How often the file is read.
        node: The statement that is being written.
    """

    text: SourceText
    read: TableRead
    reader: Reader
    some: list[ast.stmt] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    passes: int = 0
    node: ast.stmt = field(default_factory=ast.Pass)

    @property
    def source(self) -> str:
        """What makes a new reader of the file."""
        return f"{self.read.reader}()"

    def write(self, node: ast.stmt) -> None:
        """Write a statement.

        Raises:
            UnfitError: It cannot be written.
        """
        if names_bound([node]) & names_in(self.read.call):
            raise UnfitError
        if not names_in(node) & self.made():
            self._forget(node)
            return
        if not isinstance(node, _SIMPLE) or (not is_quiet([node], ()) and not _sets_outside(node)):
            raise UnfitError
        self.node, before = node, (self.edits[:], self.passes)
        found = list[tuple[ast.expr, str]]()
        try:
            self._find(node, found)
        except UnfitError:
            self.edits, self.passes = before
            self._move(node)
            return
        self.edits += [(*self.text.span(one), code) for one, code in found]
        self._forget(node)

    def made(self) -> set[str]:
        """Give the names of what has the table's rows, or groups of them."""
        return {name for name, kind in self.reader.names.items() if kind != "outside"}

    def _forget(self, node: ast.stmt) -> None:
        for name in names_bound([node]):
            self.reader.names.pop(name, None)

    def _move(self, node: ast.stmt) -> None:
        """A statement that gives rows for rows is done with each part; one that gives fewer is written in parts."""
        moved = len(self.reader.moved)
        kind = kind_of(self.reader, node.value)  # type: ignore[attr-defined]
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if kind == "fewer" and isinstance(target, ast.Name) and target.id != self.read.name:
            if len(self.reader.moved) > moved:
                raise UnfitError
            end = End(node=node, value=node.value, total=False)  # type: ignore[arg-type, attr-defined]
            self.edits.append((*self.text.span(end.value), self._in_parts(end)))
            self._forget(node)
            return
        self.reader.read_statement(node)
        start, stop = _lines(self, node)
        self.edits.append((start, min(stop + 1, len(self.text.text)), ""))
        self.some.append(node)

    def _find(self, node: ast.AST, found: list[tuple[ast.expr, str]]) -> None:
        """Find what code makes little of the rows, and what is written in its place."""
        if isinstance(node, ast.expr):
            if not names_in(node) & self.made():
                return
            if isinstance(node, ast.JoinedStr):
                found.append((node, self._of_text(node)))
                return
            if code := _counted(self, node) or self._totaled(node):
                found.append((node, code))
                return
        if isinstance(node, _ONCE) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            raise UnfitError
        for one in ast.iter_child_nodes(node):
            self._find(one, found)

    def _of_text(self, node: ast.JoinedStr) -> str:
        """A text with values in it, anew: their places in it are not known in all versions of Python."""
        return ast.unparse(ast.fix_missing_locations(self._anew(copy.deepcopy(node))))

    def _anew(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and names_in(node) & self.made():
            if code := _counted(self, node) or self._totaled(node, in_text=True):
                return ast.parse(code, mode="eval").body
            if isinstance(node, (*_ONCE, ast.Name)):
                raise UnfitError
        for name, old in ast.iter_fields(node):
            if isinstance(old, list):
                setattr(node, name, [self._anew(one) if isinstance(one, ast.AST) else one for one in old])
            elif isinstance(old, ast.AST):
                setattr(node, name, self._anew(old))
        return node

    def _totaled(self, node: ast.expr, *, in_text: bool = False) -> str:
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Attribute)
            or kind_of(self.reader, node) != "total"
        ):
            return ""
        if in_text and agg_of(node) is not None:
            raise UnfitError
        return self._in_parts(End(node=ast.Expr(node), value=node, total=True), in_text=in_text)

    def _in_parts(self, end: End, *, in_text: bool = False) -> str:
        """The call, with what is done with each part before it."""
        self.passes += 1
        value = given_of(end)
        agg = agg_written(self.text, end)
        code = ast.unparse(value) if in_text else self.text.text[slice(*self.text.span(value))]
        if not self.some:
            return f"nb_oomhelper.in_parts(lambda {self.read.name}: {code}, {self.source}{agg})"
        start = _lines(self, self.node)[0]
        if any(one[:2] == (start, start) for one in self.edits):
            raise UnfitError  # of two functions of one name the first would be gone
        lines = "".join(self.text.text[slice(*_lines(self, one))] + "\n" for one in self.some)
        block = textwrap.indent(lines + f"return {in_brackets(code)}\n", "    ")
        self.edits.append((start, start, f"def {FUNCTION}({self.read.name}):\n{block}"))
        return f"nb_oomhelper.in_parts({FUNCTION}, {self.source}{agg})"


def _sets_outside(node: ast.stmt) -> bool:
    """Whether it only puts something small into what the cell has made: `means["n"] = df.groupby("a").size()`."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    kept = [one for one in targets if isinstance(one, ast.Subscript) and isinstance(one.value, ast.Name)]
    return bool(targets) and len(kept) == len(targets) and is_quiet([ast.Expr(node.value)])  # type: ignore[attr-defined]


def _lines(writer: _Writer, node: ast.stmt) -> tuple[int, int]:
    """The lines that a statement has to itself."""
    start, end = writer.text.span(node)
    if start > writer.text.line_start(start) or not writer.text.stands_alone(start, end):
        raise UnfitError
    return start, writer.text.line_end(end)


def _counted(writer: _Writer, node: ast.expr) -> str:
    """`len(df)` and `df.shape`; where statements before may leave rows out nobody counts."""
    count = f"sum(map(len, {writer.source}))"
    if writer.read.name in names_bound(writer.some):
        return ""
    rows = isinstance(node, ast.Subscript) and _is_shape(writer, node.value) and ast.unparse(node.slice) == "0"
    rows = rows or (isinstance(node, ast.Call) and ast.unparse(node) == f"len({writer.read.name})")
    if not rows and (writer.some or not _is_shape(writer, node)):
        return ""
    writer.passes += 1
    return count if rows else f"({count}, next({writer.source}).shape[1])"


def _is_shape(writer: _Writer, node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == f"{writer.read.name}.shape"
