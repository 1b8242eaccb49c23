"""Up to where code makes much of a table's rows, and what little of it is read later."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from nb_oomhelper.source.frame_kinds import Reader, kind_of
from nb_oomhelper.source.frame_methods import REDUCES, ROWS, Kind, agg_of, texts_of_all
from nb_oomhelper.source.row_company import BY_ROWS
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.tree import last_name, names_bound, reads_by_name, walk

OF_EXPRESSION = 0
"""The rank of what comes to no less, but of which much more is made on the way."""
_FAR = 20  # statements that are read after the one that failed
_SEVERAL = 2
_GROWING = frozenset({"merge", "join", "melt", "explode", "stack", "get_dummies"})  # what comes out may be the largest
_SOME_OF_EACH = frozenset({"head", "tail", "nth", "filter"})  # of groups: rows, with their old names


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A statement of which a part is computed in parts.

    Attributes:
        node: The statement.
        value: That part of it.
        total: It is a total of all parts; otherwise its parts are put one behind the other.
    """

    node: ast.Assign | ast.Expr
    value: ast.expr
    total: bool

    @property
    def call(self) -> ast.Call:
        """That part, where it is a total or makes little of groups."""
        return self.value  # type: ignore[return-value]

    @property
    def target(self) -> ast.expr | None:
        """The name or the column that it binds."""
        return self.node.targets[0] if isinstance(self.node, ast.Assign) else None

    @property
    def name(self) -> str:
        """The name that it binds, or ""."""
        return self.target.id if isinstance(self.target, ast.Name) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Which statements get a part of the rows.

    Attributes:
        by: The columns by which rows are kept together.
        some: The statements that do, but for the ends.
        ends: Statements that follow, and need little of what the others make.
        names: Where there are none: what the others make that is read later.
        gone: The names that are not there afterwards.
        rank: How little is left of the rows, as far as can be told.
    """

    by: frozenset[str]
    some: list[ast.stmt]
    ends: list[End] = field(default_factory=list)
    names: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()
    rank: int = 0

    @property
    def statements(self) -> list[ast.stmt]:
        """All of them, in their order."""
        return [*self.some, *(one.node for one in self.ends)]


def find_end(reader: Reader, body: list[ast.stmt], running: int, later: Sequence[Collection[str]]) -> Found | None:
    """Read statements up to the one that was running, and on until little is left of the rows.

    Args:
        reader: Knows the table.
        body: The statements from the first that reads it.
        running: Which of them was running.
        later: The names that are read from each of them on; as the last one: from their end on.

    Returns:
        None where not even the first ones can be read.
    """
    found = None if running else _one_call(reader, body[0]) or _one_expression(reader, body[0])
    try:
        for at, node in enumerate(body[: running + _FAR]):
            one = _ended_by_values(reader, body[:at], body[at:], later[at:])
            if one is not None and at + len(one.ends) > running:
                found = _better(found, one)
            if found is not None and found.rank == _KEYED:
                return found
            if at >= max(1, running):
                found = _better(found, _ended_by_column(reader, body[:at], node, later[at + 1]))
            reader.read_statement(node)
            if running and at == 0 and _kinds(reader, names_bound([node])) == {"outside"}:  # it can stay where it is
                return None
            if at >= running:
                found = _better(found, _ended(reader, body[: at + 1], later[at + 1]))
    except UnfitError:
        pass
    return found


_ROWS_OF_CALL, _SOME_GONE, _FEWER, _VALUE, _KEYED = range(1, 6)  # the other ranks


def _better(one: Found | None, other: Found | None) -> Found | None:
    """The one of which less is left; of two alike the first, but of values, which come to less the later they are."""
    if one is None or other is None:
        return one or other
    return other if (other.rank, other.rank == _VALUE) > (one.rank, False) else one


def _one_call(reader: Reader, node: ast.stmt) -> Found | None:
    """A statement that calls a model or a function of the notebook with rows: more is made there than comes out."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call) or len(node.targets) != 1:
        return None
    value = node.value
    known = last_name(value.func) in BY_ROWS or (isinstance(value.func, ast.Name) and reader.function(value.func.id))
    if not known or kind_of(reader, value) not in ROWS or _is_moved(reader):
        return None
    return Found(by=reader.by, some=[], ends=[End(node=node, value=value, total=False)], rank=_ROWS_OF_CALL)


def _one_expression(reader: Reader, node: ast.stmt) -> Found | None:
    """A statement of several steps, each of which makes rows: `(x - x_min) / (x_max - x_min)`."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    column = isinstance(target, ast.Subscript) and _is_column(reader, target)
    if not isinstance(node, ast.Assign) or not (isinstance(target, ast.Name) or column):
        return None
    steps = [one for one in ast.walk(node.value) if isinstance(one, (ast.BinOp, ast.Compare, ast.Call))]
    rows = [one for one in steps if kind_of(reader, one) in ROWS]
    if any(isinstance(one, ast.Call) and last_name(one.func) in _GROWING for one in rows):
        return None
    kind = kind_of(reader, node.value)
    if len(rows) < _SEVERAL or kind not in ROWS or (column and kind == "fewer") or _is_moved(reader):
        return None
    names = (target.id,) if isinstance(target, ast.Name) else ()
    return Found(by=reader.by, some=[node], names=names, rank=OF_EXPRESSION)


def _is_column(reader: Reader, target: ast.Subscript) -> bool:
    """Whether columns of the table are set, and not some of its rows."""
    named = isinstance(target.slice, (ast.Constant, ast.Name)) and kind_of(reader, target.slice) == "outside"
    return named and isinstance(target.value, ast.Name) and target.value.id in reader.given


def _ended_by_values(
    reader: Reader, some: list[ast.stmt], after: list[ast.stmt], later: Sequence[Collection[str]]
) -> Found | None:
    """As many of the next statements as it takes until nothing else that was made is read: each needs little of it."""
    made, ends = names_bound(some), list[End]()
    for at, node in enumerate(after):
        end = _end_in(reader, node, made)
        if end is None or (ends and not _go_together(ends[0], end)):
            return None
        ends.append(end)
        names = {one.name for one in ends}
        if len(ends) > 1 and (len(names) < len(ends) or names & names_read([one.node for one in ends])):
            return None
        gone = made - names
        if gone.isdisjoint(later[at + 1]):
            keyed = end.total or last_name(end.call.func) not in _SOME_OF_EACH
            rank = _KEYED if keyed else _VALUE
            return Found(by=reader.by, some=[*some], ends=ends, gone=frozenset(gone), rank=rank)
    return None


def _go_together(one: End, other: End) -> bool:
    """Whether one call can give both: what is wanted of their groups is the same."""
    if not (one.name and other.name) or one.total != other.total:
        return False
    return not one.total or (_wanted(one) == _wanted(other) != "")


def _wanted(end: End) -> str:
    spec = agg_of(end.call)
    return "" if isinstance(spec, dict) else ast.unparse(spec) if spec else last_name(end.call.func) or ""


def _end_in(reader: Reader, node: ast.stmt, made: Collection[str]) -> End | None:
    """The part of a statement that makes little of the rows, where the rest reads nothing that was made before."""
    plain = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    if not isinstance(node, ast.Expr) and not plain:
        return None
    texts = {id(part) for one in ast.walk(node) if isinstance(one, ast.JoinedStr) for part in ast.walk(one)}
    for one in ast.walk(node.value):  # type: ignore[attr-defined]
        if id(one) in texts or not isinstance(one, ast.Call) or not isinstance(one.func, ast.Attribute):
            continue
        if one.func.attr not in REDUCES or not (kind := kind_of(reader, one)):
            continue
        of_groups = kind_of(reader, one.func.value) == "groups"
        if kind == "total" or (kind == "fewer" and of_groups):
            inside = {id(part) for part in ast.walk(one)}
            reads = [part for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)]
            outside = {part.id for part in reads if id(part) not in inside}
            alone = _kinds(reader, outside) <= {"outside"} and not outside & {*made}
            return End(node=node, value=one, total=kind == "total") if alone else None  # type: ignore[arg-type]
    return None


def _ended_by_column(reader: Reader, some: list[ast.stmt], node: ast.stmt, later: Collection[str]) -> Found | None:
    """Statements of which only a column of the table itself comes out: `trips["km"] = r * np.arcsin(np.sqrt(a))`."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    made = names_bound(some)
    if not isinstance(node, ast.Assign) or not isinstance(target, ast.Subscript) or not _is_column(reader, target):
        return None
    if made & {*later} or kind_of(reader, node.value) != "rows" or _is_moved(reader):
        return None
    end = End(node=node, value=node.value, total=False)
    return Found(by=reader.by, some=[*some], ends=[end], gone=frozenset(made), rank=_FEWER)


def _ended(reader: Reader, some: list[ast.stmt], later: Collection[str]) -> Found | None:
    """Statements of which later ones read rows."""
    bound = names_bound(some)
    if _is_moved(reader):
        return None
    read = {*later} | {one.id for one in getattr(some[-1], "targets", ()) if isinstance(one, ast.Name)}
    names = tuple(name for name in _in_order(some) if name in read)
    gone = frozenset(bound - {*names})
    fewer = _kinds(reader, names) == {"fewer"}
    if not names or _kinds(reader, names) - ROWS or not (gone or fewer):
        return None
    return Found(by=reader.by, some=[*some], names=names, gone=gone, rank=_FEWER if fewer else _SOME_GONE)


def _kinds(reader: Reader, names: Collection[str]) -> set[Kind]:
    return {reader.names.get(one, "outside") for one in names}


def _is_moved(reader: Reader) -> bool:
    """Whether rows do not lie as in the table, and then would not when they are put one part behind the other."""
    return bool(reader.moved) and not reader.by


def _in_order(some: list[ast.stmt]) -> Iterator[str]:
    found = [one.id for node in some for one in getattr(node, "targets", ()) if isinstance(one, ast.Name)]
    yield from dict.fromkeys(found)


def names_read(body: Sequence[ast.stmt]) -> set[str]:
    """Give the names that are read there, or deleted; those in texts, too: `shops.query("x in @pairs.x")`.

    Args:
        body: The code.
    """
    found = {one.id for one in walk(body) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Store)}
    if reads_by_name(body):
        found |= {word for text in texts_of_all(walk(body)) for word in re.findall(r"\w+", text)}
    return found
