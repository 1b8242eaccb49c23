"""Statements that make large tables of one with pandas, written as a function that gets a part of its rows."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frame_kinds import Reader
from nb_oomhelper.source.frame_methods import ROWS, TOTALS, Kind, UnfitError, keyword, texts_of
from nb_oomhelper.source.rows_apart import RowsApart, find_statement, is_quiet
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.tree import is_long_text, last_name, names_bound, names_in, walk

_FUNCTION = "of_rows"
_STEPS = (ast.Assign, ast.AugAssign)
_KEYS = {"groupby": "by", "merge": "on", "drop_duplicates": "subset"}  # methods, and how they are told columns
_SOME_OF_EACH = frozenset({"head", "tail", "nth", "filter"})  # of groups: rows, with their old names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Which statements, what is given of each part, and how that is joined.

    Attributes:
        some: The statements.
        value: The expression that the last one computes in parts; None where names are given.
        names: What is given otherwise, and what the names are that it is bound to.
        by: The columns by which rows are kept together.
        join: How the parts are put together.
        gone: The names that are not there afterwards.
        little: What is given of all is less than the rows.
        keyed: It is a total, or one thing for each group.
    """

    some: list[ast.stmt]
    value: ast.expr | None
    names: tuple[str, ...]
    by: frozenset[str]
    join: Kind
    gone: frozenset[str]
    little: bool
    keyed: bool = False


def frames_apart(
    text: SourceText,
    body: list[ast.stmt],
    line: int,
    table: str,
    columns: Collection[str],
    barred: Collection[str],
    function: Callable[[str], Function | None],
) -> RowsApart | None:
    """Write what is made of a table's rows as a function of a part: `nb_oomhelper.in_parts(of_rows, sales, by="shop")`.

    Args:
        text: The source.
        body: The statements of the cell.
        line: The line that was running, from 1.
        table: The name of the table.
        columns: Its columns.
        barred: Names of what else has something for each of its rows.
        function: Gives a function of the notebook's that a name stands for, or None.

    Returns:
        None where it cannot be written.
    """
    found = find_statement(body, line)
    if found is None or found[2] or _FUNCTION in text.text:
        return None
    block, at, _ = found
    ways = []
    for by in _groupings([*block[at:], *_called(block[at:], function)], columns):
        for start in range(_first(block, at, table), at + 1):
            reader = Reader(by=by, barred=barred, function=function, names={table: "rows"}, given={table})
            one = _read(reader, block[start : at + 1], block[at + 1 :])
            if one is not None and is_quiet(one.some, {table}):
                ways.append(one)
    best = max(ways, key=lambda one: (one.keyed, one.value is not None, one.little), default=None)
    return None if best is None else _write(text, best, table)


def _called(body: list[ast.stmt], function: Callable[[str], Function | None]) -> list[ast.stmt]:
    """What functions of the notebook do that some code names, or that these name."""
    found, names = list[ast.stmt](), names_in(ast.Module(body, []))
    met = set[str]()
    while names - met:
        name = (names - met).pop()
        met.add(name)
        if (one := function(name)) is not None:
            found += one.body
            names |= names_in(one)
    return found


def _groupings(block: list[ast.stmt], columns: Collection[str]) -> Iterator[frozenset[str]]:
    """The columns by which rows may have to be kept together, the likeliest first."""
    yield frozenset()
    calls = [one for one in walk(block) if isinstance(one, ast.Call)]
    keys = [
        texts_of(keyword(one, name) or next(iter(one.args), None))
        for one in calls
        if (name := _KEYS.get(last_name(one.func) or ""))
    ]
    singles = [frozenset({name}) for one in keys for name in sorted(one)]
    yield from dict.fromkeys(one for one in [*singles, *keys] if one and one <= {*columns})


def _first(block: list[ast.stmt], at: int, table: str) -> int:
    """From which statement on the table is there, and what follows could be moved."""
    start = at
    while start and isinstance(block[start - 1], _STEPS) and not _sets(block[start - 1], table):
        start -= 1
    return start


def _sets(node: ast.stmt, table: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    return any(table in names_in(one) for one in targets)


def _read(reader: Reader, some: list[ast.stmt], after: list[ast.stmt]) -> _Found | None:
    """Read statements up to the one that was running, and on until little is left of the rows."""
    found, done = None, list[ast.stmt]()
    try:
        for node in some[:-1]:
            reader.read_statement(node)
            done.append(node)
        if done and _kinds(reader, names_bound(done[:1])) == {"outside"}:  # it can stay where it is
            return None
        for at, node in enumerate([some[-1], *after]):
            done.append(node)
            rest = after[at:]
            if (one := _ended_by_value(reader, done, rest)) and one.keyed:
                return one
            found = one or found
            reader.read_statement(node)
            one = _ended(reader, done, rest)
            if one is not None and not (found and found.value) and (one.little or (one.gone and found is None)):
                found = one
    except UnfitError:
        pass
    return found


def _kinds(reader: Reader, names: Collection[str]) -> set[Kind]:
    return {reader.names.get(one, "outside") for one in names}


def _ended_by_value(reader: Reader, some: list[ast.stmt], rest: list[ast.stmt]) -> _Found | None:
    """Statements of which the last computes a total, or less for each group, and is all that is read later."""
    node = some[-1]
    names = [one.id for one in node.targets if isinstance(one, ast.Name)] if isinstance(node, ast.Assign) else []
    if not isinstance(node, (ast.Assign, ast.Expr)) or (isinstance(node, ast.Assign) and len(names) != 1):
        return None
    made = names_bound(some[:-1])
    value, kind = _reduced(reader, node.value)
    if value is None or (made - {*names}) & _read_in(rest):
        return None
    join: Kind = kind if kind in TOTALS.values() else "rows"
    gone = frozenset(made - {*names})
    keyed = join != "rows" or last_name(value.func) not in _SOME_OF_EACH
    return _Found(
        some=[*some],
        value=value,
        names=tuple(names),
        by=reader.by,
        join=join,
        gone=gone,
        little=True,
        keyed=keyed,
    )


def _reduced(reader: Reader, whole: ast.expr) -> tuple[ast.Call | None, Kind]:
    """The part of an expression that makes little of the rows, where the rest reads nothing of them."""
    for node in ast.walk(whole):
        if not isinstance(node, ast.Call) or not (kind := _kind_of(reader, node)):
            continue
        grouped = kind == "fewer" and isinstance(node.func, ast.Attribute)
        owner = _kind_of(reader, node.func.value) if grouped else None  # type: ignore[attr-defined]
        if kind not in TOTALS.values() and owner != "groups":
            continue
        inside = {id(one) for one in ast.walk(node)}
        names = {one.id for one in ast.walk(whole) if isinstance(one, ast.Name) and id(one) not in inside}
        return (node, kind) if _kinds(reader, names) <= {"outside"} else (None, "outside")
    return None, "outside"


def _kind_of(reader: Reader, node: ast.expr) -> Kind | None:
    try:
        return reader.read(node)
    except UnfitError:
        return None


def _ended(reader: Reader, some: list[ast.stmt], rest: list[ast.stmt]) -> _Found | None:
    """Statements of which later ones read rows."""
    bound, read = names_bound(some), _read_in(rest)
    last = some[-1]
    read |= {one.id for one in getattr(last, "targets", ()) if isinstance(one, ast.Name)}
    names = tuple(name for name in _in_order(some) if name in read)
    if not names or _kinds(reader, names) - ROWS:
        return None
    gone, little = frozenset(bound - {*names}), _kinds(reader, names) == {"fewer"}
    return _Found(some=[*some], value=None, names=names, by=reader.by, join="rows", gone=gone, little=little)


def _in_order(some: list[ast.stmt]) -> Iterator[str]:
    found = [one.id for node in some for one in getattr(node, "targets", ()) if isinstance(one, ast.Name)]
    yield from dict.fromkeys(found)


def _read_in(body: list[ast.stmt]) -> set[str]:
    return {one.id for one in walk(body) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}


def _write(text: SourceText, found: _Found, table: str) -> RowsApart | None:
    start, end = text.span(found.some[0])[0], text.span(found.some[-1])[1]
    first = text.line_start(start)
    rest = text.text[end : text.line_end(end)].strip()
    if text.text[first:start] or (rest and not rest.startswith("#")) or any(map(is_long_text, walk(found.some))):
        return None
    value = found.value
    if len(found.some) == 1 and value is None:
        value = found.some[0].value  # type: ignore[attr-defined]
    call = f"nb_oomhelper.in_parts({{}}, {table}{_options(found)})"
    if value is not None and len(found.some) == 1:
        one, two = text.span(value)
        edits = [(one, two, call.format(_function(text, value, table)))]
        return RowsApart(tables=(table,), gone=frozenset(), kept=found.names, edits=edits)
    body, result = text.text[first:end], ", ".join(found.names)
    given, tail = result, call.format(_FUNCTION)
    if value is not None:
        one, two = text.span(value)
        last = text.span(found.some[-1])[0]
        body, given = text.text[first:last], text.text[one:two]
        given = _in_brackets(given)
        whole = text.span(found.some[-1].value)  # type: ignore[attr-defined]
        tail = _in_brackets(text.text[whole[0] : one] + tail + text.text[two : whole[1]])
    lines = [
        f"def {_FUNCTION}({table}):",
        textwrap.indent(body.rstrip(), "    "),
        textwrap.indent(f"return {given}", "    "),
        f"{result} = {tail}" if result else tail,
    ]
    return RowsApart(tables=(table,), gone=found.gone, kept=found.names, edits=[(first, end, "\n".join(lines))])


def _in_brackets(code: str) -> str:
    """Code that may have stood in brackets, which are not there any more."""
    return f"({code})" if "\n" in code else code


def _function(text: SourceText, value: ast.expr, table: str) -> str:
    """`prepare`, where it gets the table alone; else a lambda."""
    start, end = text.span(value)
    alone = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and not value.keywords
    if alone and [getattr(one, "id", "") for one in value.args] == [table]:  # type: ignore[attr-defined]
        return value.func.id  # type: ignore[attr-defined,no-any-return]
    return f"lambda {table}: {text.text[start:end]}"


def _options(found: _Found) -> str:
    by = sorted(found.by)
    keys = "" if not by else f", by={by[0]!r}" if len(by) == 1 else f", by={by!r}"
    join = "" if found.join == "rows" else f", join={found.join!r}"
    return (keys + join).replace("'", '"')
