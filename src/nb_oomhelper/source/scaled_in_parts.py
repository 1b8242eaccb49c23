"""scikit-learn's scalers, which learn from some rows at a time and scale some at a time."""

from __future__ import annotations

import ast

from nb_oomhelper.source.rows_apart import find_statement
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import is_name, is_unpacked, last_name, names_bound, names_in, walk

_SCALERS = frozenset({"StandardScaler", "MinMaxScaler", "MaxAbsScaler"})  # that have `partial_fit`


def scaled_in_parts(
    text: SourceText, body: list[ast.stmt], line: int, table: str, size: int, *, frame: bool
) -> list[Edit]:
    """Write `scaler.fit_transform(X)` with some rows at a time: `scaler.partial_fit(…)`, and then `in_parts`.

    Args:
        text: The source.
        body: The statements of the cell, in which the scaler is made.
        line: The line that was running, from 1.
        table: The name of the table.
        size: How many rows a part is to have.
        frame: Whether the table is a DataFrame.

    Returns:
        The changes; none where it cannot be.
    """
    found = find_statement(body, line)
    if found is None or found[2]:
        return []
    block, at, _ = found
    node = block[at]
    start = text.span(node)[0]
    indent = text.text[text.line_start(start) : start]
    for call in [one for one in ast.walk(node) if isinstance(one, ast.Call) and not indent.strip()]:
        name = _scaler_of(call, table)
        if name is None or not _is_made_here(block[:at], name):
            continue
        given = call.args[0]
        part = free_part({*names_in(text.tree)})
        rows = f"{table}.iloc[{part} : {part} + {size}]" if frame else f"{table}[{part} : {part} + {size}]"
        rows += "" if is_name(given, table) else f"[{text.text[slice(*text.span(given.slice))]}]"  # type: ignore[attr-defined]
        fitted = f"for {part} in range(0, len({table}), {size}):\n{indent}    {name}.partial_fit({rows})\n{indent}"
        scale = f"{name}.transform"
        if not is_name(given, table):
            scale = f"lambda {table}: {name}.transform({text.text[slice(*text.span(given))]})"
        edits = [(start, start, fitted), (*text.span(call), f"nb_oomhelper.in_parts({scale}, {table})")]
        return edits + _as_it_is(text, node, call)
    return []


def free_part(taken: set[str]) -> str:
    """Give a name for where a part begins."""
    return next(one for one in ("start", "first", "first_row") if one not in taken)


def _scaler_of(call: ast.Call, table: str) -> str | None:
    """The name of a scaler that learns from a table, or from some of its columns."""
    if last_name(call.func) != "fit_transform" or is_unpacked(call):
        return None
    owner = getattr(call.func, "value", None)
    given = call.args[0] if len(call.args) == 1 and not call.keywords else None
    some = isinstance(given, ast.Subscript) and isinstance(given.slice, (ast.Name, ast.List))
    known = given is not None and is_name(given.value if some else given, table)  # type: ignore[attr-defined]
    return owner.id if known and isinstance(owner, ast.Name) else None


def _is_made_here(before: list[ast.stmt], name: str) -> bool:
    """Whether a scaler has been made right before, and has learned nothing since."""
    made = [node for node in before if name in names_in(node)]
    call = made[0].value if len(made) == 1 and isinstance(made[0], ast.Assign) else None
    return isinstance(call, ast.Call) and last_name(call.func) in _SCALERS and names_bound(made) == {name}


def _as_it_is(text: SourceText, node: ast.stmt, call: ast.expr) -> list[Edit]:
    """A DataFrame that is made of what comes out takes it, and makes no copy."""
    made = [one for one in walk([node]) if isinstance(one, ast.Call) and last_name(one.func) == "DataFrame"]
    place = text.span(call)[1]
    fit = any(one.args == [call] and "copy" not in {given.arg for given in one.keywords} for one in made)
    return [(place, place, ", copy=False")] if fit else []
