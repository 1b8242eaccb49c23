"""Statements that make large tables of one with pandas, written as a function that gets a part of its rows."""

from __future__ import annotations

import ast
import itertools
import json
import textwrap
from collections.abc import Callable, Collection, Iterator

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frame_ends import OF_EXPRESSION, End, Found, find_end, names_read
from nb_oomhelper.source.frame_kinds import Reader
from nb_oomhelper.source.frame_methods import agg_of, keyword, texts_of
from nb_oomhelper.source.frame_words import is_mask
from nb_oomhelper.source.rows_apart import FUNCTION, RowsApart, find_statement, is_quiet
from nb_oomhelper.source.source_text import SourceText
from nb_oomhelper.source.text_edits import read_text
from nb_oomhelper.source.totals_first import totals_first
from nb_oomhelper.source.tree import is_long_text, is_name, last_name, names_in, pairs, walk

_FAR, _STARTS, _GROUPINGS = 20, 4, 4  # statements before the one that failed, those to begin with, columns to try
_OF_ROW = frozenset({"all", "any"})  # along a row
_OF_WHOLE = frozenset({"rolling", "expanding", "ewm", "resample", "groupby"})
_STEPS = (ast.Assign, ast.AugAssign)
_KEYS = {"groupby": "by", "merge": "on", "drop_duplicates": "subset"}  # methods, and how they are told columns


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
    if found is None or found[2] or FUNCTION in text.text:
        return None
    block, at, _ = found
    by_name = bool({"locals", "globals", "vars", "dir"} & names_in(text.tree))
    ways, later = list[tuple[Found, list[ast.stmt]]](), _read_later(block)
    for by in _groupings([*block[at:], *(node for one in _called(block[at:], function) for node in one.body)], columns):
        for start in _starts(block, at, table):
            whole = {*barred, *_of_whole_tables(block[:start])}
            reader = Reader(by=by, barred=whole, function=function, names={table: "rows"}, given={table})
            one = find_end(reader, block[start:], at - start, later[start:])
            if one is not None and not (one.gone and by_name) and _can_be_moved(one, table, function):
                ways.append((one, reader.joining))
    best = max(ways, key=lambda one: one[0].rank, default=None)
    return None if best is None else _write(text, *best, table)


def with_totals_first(
    text: SourceText, body: list[ast.stmt], line: int, table: str, taken: Collection[str], lists: Collection[str] = ()
) -> tuple[SourceText, int] | None:
    """Write what is computed of all rows, and with each of them, before that: `df_mean = df.mean()`.

    Args:
        text, body, line, table: As of `frames_apart`, of a cell.
        taken: Names that stand for something else.
        lists: Those that stand for lists.

    Returns:
        The source anew, and which line was running; None where there is nothing of the kind.
    """
    found = find_statement(body, line)
    if found is None or found[2]:
        return None
    block, at, _ = found
    starts = _starts(block, at, table)
    statements = block[starts[0] : at + 1] if starts else []
    if not statements or not is_quiet([*statements[:-1], _value_of(statements[-1])], {table}):
        return None
    made = totals_first(text, statements, table, taken, lists)
    changed = None if made is None else read_text(made[0])
    return None if changed is None or made is None else (changed, line + made[1])


def _of_whole_tables(before: list[ast.stmt]) -> set[str]:
    """Names of windows and groups of rows: `weeks = df.rolling(7)`; what is made of them is of all rows of a table."""
    made = [(target, value) for node in before for target, value in pairs(node) if isinstance(value, ast.Call)]
    return {target.id for target, value in made if isinstance(target, ast.Name) and last_name(value.func) in _OF_WHOLE}


def _read_later(block: list[ast.stmt]) -> list[frozenset[str]]:
    """The names that are read from each statement on, and, as the last, none."""
    found = [frozenset[str]()]
    for node in reversed(block):
        found.append(found[-1] | names_read([node]))
    return found[::-1]


def _can_be_moved(found: Found, table: str, function: Callable[[str], Function | None]) -> bool:
    """Whether statements and what they call change nothing else, and read of what they bind nothing older."""
    moved = [_value_of(one) for one in found.some] if found.rank == OF_EXPRESSION else found.some
    some: list[ast.stmt] = [*moved, *(ast.Expr(one.value) for one in found.ends)]
    odd = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    bodies = [(some, {table}), *((one.body, set[str]()) for one in _called(some, function))]
    if any(isinstance(one, odd) for one in walk(some)) or not all(is_quiet(*one) for one in bodies):
        return False
    if len(some) == 1:
        return True
    bound, there = _names_set(some), {table}
    for node in some:
        reads = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
        reads |= names_in(node.target) if isinstance(node, ast.AugAssign) else set()
        if reads & bound - there:
            return False
        there |= _names_set([node])
    return True


def _value_of(node: ast.stmt) -> ast.stmt:
    """What is moved of a statement whose target stays where it is: `sales["z"] = …`."""
    return ast.Expr(node.value) if isinstance(node, ast.Assign) else node


def _targets(node: ast.stmt) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", ast.Constant(0))]


def _names_set(some: list[ast.stmt]) -> set[str]:
    return {one.id for node in some for one in _targets(node) if isinstance(one, ast.Name)}


def _called(body: list[ast.stmt], function: Callable[[str], Function | None]) -> list[Function]:
    """The functions of the notebook that some code names, or that these name."""
    found, names = list[Function](), names_in(ast.Module(body, []))
    met = set[str]()
    while names - met:
        name = (names - met).pop()
        met.add(name)
        if (one := function(name)) is not None:
            found.append(one)
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
    known = dict.fromkeys(one for one in [*singles, *keys] if one and one <= {*columns})
    yield from itertools.islice(known, _GROUPINGS)


def _starts(block: list[ast.stmt], at: int, table: str) -> list[int]:
    """The statements that read the table as it is, up to the one that was running, with nothing else between."""
    start = at
    while start and at - start < _FAR and isinstance(block[start - 1], _STEPS):
        if any(table in names_in(one) for one in _targets(block[start - 1])):
            break
        start -= 1
    return [one for one in range(start, at + 1) if table in names_in(block[one])][:_STARTS]


def _write(text: SourceText, found: Found, joining: list[ast.stmt], table: str) -> RowsApart | None:
    statements = found.statements
    start, end = text.span(statements[0])[0], text.span(statements[-1])[1]
    first = text.line_start(start)
    if start > first or not text.stands_alone(start, end) or any(map(is_long_text, walk(statements))):
        return None
    keys = sorted(found.by)
    by = "" if not keys else ", by=" + json.dumps(keys if len(keys) > 1 else keys[0], ensure_ascii=False)
    kept = tuple(one.name for one in found.ends if one.name) or found.names
    if len(statements) == 1:
        node = statements[0]
        value = found.ends[0].value if found.ends else node.value  # type: ignore[attr-defined]
        agg = agg_written(text, found.ends[0]) if found.ends else ""
        edits = [
            (
                *text.span(value),
                _call(_function(text, given_of(found.ends[0]) if found.ends else value, table), table, by + agg),
            )
        ]
    else:
        edits = [(first, end, "\n".join(_lines(text, found, joining, first, table, by)))]
    totals = any(one.total for one in found.ends)
    return RowsApart(tables=(table,), gone=found.gone, kept=kept, edits=edits, rank=found.rank, totals=totals)


def _lines(text: SourceText, found: Found, joining: list[ast.stmt], first: int, table: str, by: str) -> Iterator[str]:
    """The function, its call, and what is made of what comes out."""
    yield f"def {FUNCTION}({table}):"
    mask = None if by else _mask_of(found, table)
    some = found.some if mask is None else found.some[:-1]
    if some:
        yield textwrap.indent(_body(text, some, joining, first), "    ")
    if mask is not None:  # whose rows need not be put together
        yield textwrap.indent(f"return {in_brackets(_code(text, mask))}", "    ")
        yield f"{found.names[0]} = {table}[{_call(FUNCTION, table, by)}]"
        return
    if not found.ends:
        yield f"    return {', '.join(found.names)}"
        yield f"{', '.join(found.names)} = {_call(FUNCTION, table, by)}"
        return
    values = [in_brackets(_code(text, given_of(one))) for one in found.ends]
    yield textwrap.indent(f"return {', '.join(values)}", "    ")
    call = _call(FUNCTION, table, by + agg_written(text, found.ends[0]))
    if len(found.ends) == 1:
        yield _with(text, found.ends[0], call)
        return
    yield f"{', '.join(one.name for one in found.ends)} = {call}"
    yield from (_with(text, one, one.name) for one in found.ends if one.node.value is not one.value)


def _body(text: SourceText, some: list[ast.stmt], joining: list[ast.stmt], last: int) -> str:
    """Statements as they stand there, with what must hold where the next ones look beyond a part."""
    code = ""
    for node in some:
        start, end = text.span(node)
        code += text.text[last:end]
        last = end
        if node in joining:  # nothing at its ends is filled from another part then
            indent = text.text[text.line_start(start) : start]
            code += f"\n{indent}assert {ast.unparse(_targets(node)[0])}.iloc[[0, -1]].notna().all()"
    return code


def _mask_of(found: Found, table: str) -> ast.expr | None:
    """What tells which rows of the table itself are all that comes out: `z < 3` of `out = df[z < 3]`."""
    value = getattr(found.some[-1], "value", None) if len(found.some) > 1 and not found.ends else None
    if len(found.names) != 1 or table in _names_set(found.some) or not isinstance(value, ast.Subscript):
        return None
    told = is_mask(value.slice, ()) or (isinstance(value.slice, ast.Call) and last_name(value.slice.func) in _OF_ROW)
    return value.slice if told and is_name(value.value, table) else None


def _call(function: str, table: str, options: str) -> str:
    return f"nb_oomhelper.in_parts({function}, {table}{options})"


def _with(text: SourceText, end: End, code: str) -> str:
    """A statement with other code in the place of what is computed in parts."""
    start, stop = text.span(end.node.value)
    one, two = text.span(end.value)
    whole = in_brackets(text.text[start:one] + code + text.text[two:stop])
    return f"{_code(text, end.target)} = {whole}" if end.target else whole


def given_of(end: End) -> ast.expr:
    """Tell what a function gives: of a total what it is of.

    Args:
        end: What is computed in parts.
    """
    value = end.value
    return value.func.value if end.total and isinstance(value, ast.Call) else value  # type: ignore[attr-defined]


def agg_written(text: SourceText, end: End) -> str:
    """Write `, agg="mean"`, as what it is of is asked for it; "" where rows come out.

    Args:
        text: The source.
        end: What is computed.
    """
    if not end.total:
        return ""
    spec = agg_of(end.call)
    if isinstance(spec, dict):
        written = ", ".join(f'"{name}": {_code(text, one)}' for name, one in spec.items())
        return f", agg={{{written}}}"
    return f', agg="{last_name(end.call.func)}"' if spec is None else f", agg={_code(text, spec)}"


def _code(text: SourceText, node: ast.expr) -> str:
    start, end = text.span(node)
    return text.text[start:end]


def in_brackets(code: str) -> str:
    """Put code into brackets that may have stood in some, which are not there any more.

    Args:
        code: The code.
    """
    return f"({code})" if "\n" in code else code


def _function(text: SourceText, value: ast.expr, table: str) -> str:
    """`prepare`, where it gets the table alone; else a lambda."""
    alone = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and not value.keywords
    if alone and [getattr(one, "id", "") for one in value.args] == [table]:  # type: ignore[attr-defined]
        return value.func.id  # type: ignore[attr-defined,no-any-return]
    return f"lambda {table}: {_code(text, value)}"
