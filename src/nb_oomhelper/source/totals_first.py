"""Totals of a whole table within what is computed of its rows, such as `df.mean()`, written before it."""

from __future__ import annotations

import ast
from collections.abc import Collection

from nb_oomhelper.source.frame_methods import is_text
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import arguments, free_name, is_name, last_name, names_bound, names_in, walk

_TOTALS = frozenset({"mean", "std", "var", "min", "max", "median", "sum", "quantile"})
_OPTIONS = frozenset({"ddof", "numeric_only", "skipna"})


def totals_first(
    text: SourceText, statements: list[ast.stmt], table: str, taken: Collection[str], lists: Collection[str] = ()
) -> tuple[str, int] | None:
    """Write totals of a table as statements before those that use them: `df_mean = df.mean()`.

    Args:
        text: The source.
        statements: Statements one after another, which do not change the table.
        table: Its name.
        taken: Names that stand for something else, beside those in the source.
        lists: Those that stand for lists, of columns then.

    Returns:
        The source anew, and how many lines were put before the first of the statements; None where there is no total.
    """
    names, edits = dict[str, str](), list[Edit]()
    taken = {*taken, *names_in(text.tree)}
    bound = names_bound(statements)
    for call in sorted(_totals(statements, table), key=text.span):
        if names_in(call) & (bound - {table}):
            return None
        span = text.span(call)
        code = text.text[slice(*span)]
        if code not in names:
            owner = call.func.value  # type: ignore[attr-defined]
            column = ast.unparse(owner.slice).strip("'\"") if isinstance(owner, ast.Subscript) else ""
            name = "_".join(filter(str.isidentifier, (table, column, last_name(call.func) or "")))
            names[code] = free_name(name, taken)
        edits.append((*span, names[code]))
    start = text.span(statements[0])[0]
    first = text.line_start(start)
    indent = text.text[first:start]
    if not edits or indent.strip() or any("\n" in code for code in names):
        return None
    tables = [table, *(f"{table}[{one}]" for one in lists)]
    lines = "".join(f"{indent}{name} = {_by_column(code, tables)}\n" for code, name in names.items())
    return text.edited([*edits, (first, first, lines)]), len(names)


def _by_column(code: str, tables: list[str]) -> str:
    """A total of columns one by one: of all of them at once pandas makes copies."""
    table = next((one for one in tables if code.startswith(f"{one}.")), None)
    method = code.removeprefix(f"{table}.")
    if table is None or "numeric_only" in code or method.startswith("quantile"):  # which goes by another name then
        return code
    return f"{table}.apply(lambda column: column.{method})"


def _totals(statements: list[ast.stmt], table: str) -> list[ast.Call]:
    """The totals that rows are computed with: `df - df.mean()`, `df.fillna(df.median())`."""
    operands = list[ast.expr]()
    for node in walk(statements):
        if isinstance(node, ast.BinOp):
            operands += [node.left, node.right]
        elif isinstance(node, ast.Compare):
            operands += [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and last_name(node.func) in ("fillna", "clip"):
            operands += node.args
    return [one for one in operands if isinstance(one, ast.Call) and _is_total(one, table)]


def _is_total(call: ast.Call, table: str) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    column = isinstance(owner, ast.Subscript) and (is_text(owner.slice) or isinstance(owner.slice, ast.Name))
    of_table = owner is not None and is_name(owner.value if column else owner, table)  # type: ignore[attr-defined]
    known = last_name(call.func) in _TOTALS and {one.arg for one in call.keywords} <= _OPTIONS
    known = known and len(call.args) <= (last_name(call.func) == "quantile")
    return of_table and known and all(isinstance(one, ast.Constant) for one in arguments(call))
