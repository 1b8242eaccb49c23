"""Up to where code computes with all columns of a table, and what comes out of that."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from nb_oomhelper.source.column_kinds import TABLES, Kind, Reader, axis_of, is_drawn, is_module
from nb_oomhelper.source.frame_ends import names_read
from nb_oomhelper.source.row_sources import UnfitError
from nb_oomhelper.source.rows_apart import is_quiet
from nb_oomhelper.source.tree import arguments, is_long_text, last_name, names_bound, names_in, walk

FAR = 20
"""Statements before and after the one that failed that are read."""
_CHEAP = frozenset(  # what is looked at of a table without making another one
    {"head", "tail", "info", "shape", "columns", "dtypes", "index", "iloc", "loc", "min", "max", "mean", "to_parquet"}
    | {"to_csv", "size", "memory_usage", "nbytes", "dtype", "sum", "describe", "isna", "isnull"}
)
_LOOKS = frozenset({"print", "len", "display", "type"})
_ACROSS = frozenset({"any", "all", "sum", "min", "max"})  # can be had from those of parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Which statements get some of the columns.

    Attributes:
        some: The statements.
        names: What they make that is read later.
        kinds: What names stand for.
        gone: The names that are not there afterwards.
        into: Where the last one's value goes, where that is the table itself: `df[num_cols]`.
        total: A total of each row in the last one, of which all of them have a share: `(z > 3).any(axis=1)`.
        rows: Rows of the table are taken by that total.
    """

    some: list[ast.stmt]
    names: tuple[str, ...]
    kinds: dict[str, Kind]
    gone: frozenset[str]
    into: ast.expr | None = None
    total: ast.Call | None = None
    rows: bool = False

    @property
    def tables(self) -> int:
        """How many tables come out."""
        return sum(self.kinds[one] in TABLES for one in self.names) + (self.into is not None) + self.rows


def find_ways(reader: Reader, block: list[ast.stmt], start: int, running: int) -> Iterator[Found]:
    """Give the ways to do statements with some columns at a time, from one on up to different ones.

    Args:
        reader: Knows the table.
        block: The statements.
        start: The first of them that is done so.
        running: The one that failed, which must be among them.
    """
    read = reader.root in names_in(block[start])
    for at, node in enumerate(block[start : running + 1 + FAR] if read else [], start):
        if is_drawn(node) or any(map(is_long_text, ast.walk(node))):
            return
        some, rest = block[start : at + 1], block[at + 1 :]
        if at >= running and (one := _ended_by_total(reader, some, rest)) is not None:
            yield one
        into = _written_back(node, reader.table)
        try:
            if into is not None:
                if reader.read(node.value) in TABLES and at >= running:  # type: ignore[attr-defined]
                    yield from _ended(reader, some, rest, into)
                return
            reader.read_statement(node)
        except UnfitError:
            return
        if at >= running:
            yield from _ended(reader, some, rest, None)
        if reader.table in reader.names:  # the table's name stands for what comes out
            return


def _written_back(node: ast.stmt, table: str) -> ast.expr | None:
    """`df[num_cols] = …`, of a table that is written so."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    return target if isinstance(target, ast.Subscript) and ast.unparse(target) == table else None


def _ended(reader: Reader, some: list[ast.stmt], rest: list[ast.stmt], into: ast.expr | None) -> Iterator[Found]:
    bound, kinds = _bound(reader, some), reader.names
    later = names_read(rest) | (set() if into is not None else _bound_by(some[-1]))
    names = tuple(one for one in bound if one in later)
    fit = all(kinds[one] not in ("outside", "windows") for one in names) and not (into is not None and names)
    if fit and (names or into is not None) and is_quiet(some if into is None else some[:-1], ()):
        yield Found(some=some, names=names, kinds={**kinds}, gone=frozenset({*bound} - {*names}), into=into)


def _ended_by_total(reader: Reader, some: list[ast.stmt], rest: list[ast.stmt]) -> Found | None:
    """The last statement takes a total of each row, and nothing else that was made is read there, or later."""
    last, bound = some[-1], _bound(reader, some[:-1])
    plain = isinstance(last, ast.Assign) and len(last.targets) == 1 and isinstance(last.targets[0], ast.Name)
    if not (plain or isinstance(last, ast.Expr)) or {*bound} & names_read(rest) or not is_quiet(some[:-1], ()):
        return None
    for call in ast.walk(last):
        of = of_total(call) if isinstance(call, ast.Call) else None
        try:
            found = of is not None and ast.unparse(of) != reader.table and reader.read(of) in TABLES
        except UnfitError:
            found = False
        if found:
            inside = {id(one) for one in ast.walk(call)}
            beside = {one.id for one in ast.walk(last) if isinstance(one, ast.Name) and id(one) not in inside}
            if beside & {*bound}:
                return None
            return Found(
                some=some,
                names=(),
                kinds={**reader.names},
                gone=frozenset(bound),
                total=call,  # type: ignore[arg-type]
                rows=reader.root in beside,
            )
    return None


def of_total(call: ast.Call) -> ast.expr | None:
    """Give what a total of each row is of: `z > 3` of `(z > 3).any(axis=1)` and of `np.any(z > 3, axis=1)`.

    Args:
        call: The call; None where it is something else.
    """
    if last_name(call.func) not in _ACROSS or axis_of(call) not in ("1", "'columns'") or len(arguments(call)) > 2:
        return None
    if not isinstance(call.func, ast.Attribute):
        return None
    if not is_module(call.func.value):
        return call.func.value if len(arguments(call)) == 1 else None
    return call.args[0] if call.args and len(arguments(call)) == 2 else None


def _bound(reader: Reader, some: list[ast.stmt]) -> list[str]:
    found = [one.id for node in some for one in ast.walk(node) if isinstance(one, ast.Name) and one.id in reader.names]
    return list(dict.fromkeys(found))


def _bound_by(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    return {one.id for one in targets if isinstance(one, ast.Name)}


def made_of(before: list[ast.stmt], table: str) -> set[str]:
    """Give the names of what was made of a table: it may have something for each of its columns.

    Args:
        before: The statements that may have made it.
        table: The table's name.
    """
    found = {table}
    for node in before:
        if names_in(node) & found:
            found |= names_bound([node])
    return found - {table}


def costs(found: Found, block: Collection[ast.stmt], table: str) -> tuple[int, bool, int]:
    """Tell how many tables come out, or are made of it then, whether any are, and how much is moved for that.

    Args:
        found: What is done with some columns at a time.
        block: The statements among which it stands.
        table: The table's name.
    """
    more, count = makes_more(found, block, table), len(found.some)
    return found.tables + more, more, -count if more else count


def makes_more(found: Found, block: Collection[ast.stmt], table: str) -> bool:
    """Tell whether what follows may make another table of what came out; to look at it takes no more.

    Args:
        found, block, table: As of `costs`.
    """
    rest = [*block][[*block].index(found.some[-1]) + 1 :]
    names = {one for one in found.names if found.kinds[one] in TABLES} or {table}
    parents = {inner: outer for outer in walk(rest) for inner in ast.iter_child_nodes(outer)}
    for one in walk(rest):
        if not isinstance(one, ast.Name) or one.id not in names or isinstance(one.ctx, ast.Store):
            continue
        above = parents.get(one)
        looks = isinstance(above, ast.Attribute) and above.attr in _CHEAP
        looks |= isinstance(above, ast.Call) and last_name(above.func) in _LOOKS and one in above.args
        key = above.slice if isinstance(above, ast.Subscript) else None
        if not looks and not isinstance(above, ast.Expr) and not isinstance(key, ast.Constant):
            return True
    return False
