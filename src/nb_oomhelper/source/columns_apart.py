"""Statements that compute with all columns of a table, written as a function that gets some of them at a time."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from nb_oomhelper.source.column_ends import FAR, Found, costs, find_ways, made_of, makes_more, of_total
from nb_oomhelper.source.column_kinds import Kind, Reader
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.frames_apart import in_brackets
from nb_oomhelper.source.rows_apart import find_statement
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import with_edits
from nb_oomhelper.source.tree import is_name, last_name, names_in, walk

FUNCTION = "of_columns"
"""What the function is called that gets some columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnsApart:
    """What is written.

    Attributes:
        edits: The places that change.
        gone: Names that the statements bound, and that are not there afterwards.
        tables: How many tables come out.
        more: What follows may make another table of what comes out.
    """

    edits: list[Edit]
    gone: frozenset[str]
    tables: int
    more: bool


def columns_apart(
    text: SourceText,
    body: list[ast.stmt],
    line: int,
    table: str,
    kind: Kind,
    barred: Collection[str],
    lists: Collection[str],
    function: Callable[[str], Function | None],
) -> ColumnsApart | None:
    """Write what is computed of a table's columns with some at a time: `nb_oomhelper.in_parts(f, df, axis=1)`.

    Args:
        text: The source.
        body: The statements of the cell.
        line: The line that was running, from 1.
        table: The name of the table.
        kind: Whether it is a DataFrame or an array.
        barred: Names of what else has something for each of its rows or columns.
        lists: Names of lists of texts, which may name columns.
        function: Gives a function of the notebook's that a name stands for, or None.

    Returns:
        None where it cannot be written.
    """
    found = find_statement(body, line)
    if found is None or found[2] or FUNCTION in text.text:
        return None
    block, at, _ = found
    for written in _ways_written(block[at], table, kind, {*barred} - {*lists}):
        ways = list[Found]()
        for start in range(max(0, at - FAR), at + 1):
            near = {*barred, *made_of(block[:start], table)}
            reader = Reader(table=written, kind=kind, barred=near, function=function)
            ways += find_ways(reader, block, start, at)
        if ways:
            best = min(ways, key=lambda one: costs(one, block, table))
            if (edits := _write(text, best, table, written)) is None:
                return None
            more = makes_more(best, block, table)
            return ColumnsApart(edits=edits, gone=best.gone, tables=best.tables, more=more)
    return None


def _ways_written(node: ast.stmt, table: str, kind: Kind, barred: Collection[str]) -> Iterator[str]:
    """How a table is written in a statement: by its name, or as some of its columns, `df[num_cols]`."""
    yield table
    for one in ast.walk(node):
        plain = isinstance(one, ast.Subscript) and is_name(one.value, table) and kind == "frame"
        if plain and isinstance(one.slice, (ast.Name, ast.List)) and not names_in(one.slice) & {*barred}:  # type: ignore[attr-defined]
            yield ast.unparse(one)


def _write(text: SourceText, found: Found, table: str, written: str) -> list[Edit] | None:
    start, end = text.span(found.some[0])[0], text.span(found.some[-1])[1]
    first, last = text.line_start(start), found.some[-1]
    if start > first or not text.stands_alone(start, end):
        return None
    inner = [
        (*text.span(one), table)
        for one in walk(found.some)
        if isinstance(one, ast.Subscript) and one is not found.into and ast.unparse(one) == written
    ]
    options = ", axis=1" if written == table else f", axis=1, columns={written.partition('[')[2][:-1]}"
    options += "" if found.total is None else f', agg="{last_name(found.total.func)}"'
    replaced = last.value if found.total is None else found.total  # type: ignore[attr-defined]
    value = (None if found.total is None else of_total(found.total)) or replaced
    one, two = text.span(replaced)
    if len(found.some) == 1:
        function = f"lambda {table}: {in_brackets(with_edits(text, value, inner))}"
        return [(one, two, f"nb_oomhelper.in_parts({function}, {table}{options})")]
    whole = not found.names
    lines = [with_edits(text, node, inner) for node in (found.some[:-1] if whole else found.some)]
    lines.append("return " + (in_brackets(with_edits(text, value, inner)) if whole else ", ".join(found.names)))
    call = f"nb_oomhelper.in_parts({FUNCTION}, {table}{options})"
    code = text.span(last)[0]
    ended = text.text[code:one] + call + text.text[two:end] if whole else f"{', '.join(found.names)} = {call}"
    function = textwrap.indent("\n".join(lines), "    ")
    return [(first, end, f"def {FUNCTION}({table}):\n{function}\n{ended}")]
