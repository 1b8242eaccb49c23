"""Sums of all rows, and what else is put together of parts of them."""

from __future__ import annotations

import ast
import re

from nb_oomhelper.source.row_calls import QUIET, is_quiet
from nb_oomhelper.source.row_sources import NUMPY, Rows, UnfitError
from nb_oomhelper.source.row_values import RowReader
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import last_name, names_in

_TOTALS = frozenset({"mean", "sum", "min", "max"})
SIMPLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return, ast.AnnAssign)


def read_totals(text: SourceText, reader: RowReader, rest: list[ast.stmt]) -> tuple[list[tuple[str, str]], list[Edit]]:
    """Find what statements take of all rows: each part gives its share.

    Args:
        text: The source.
        reader: What has read the rows.
        rest: The statements.

    Returns:
        The shares, each a list's name and the code of what goes into it, and the changes of the statements.
    """
    totals: list[tuple[str, str]] = []
    tail: list[Edit] = []
    others: set[str] = set()  # than they were behind the loop
    for number, node in enumerate(rest):
        others |= _changed_names(rest[number - 1]) if number else set()
        if not isinstance(node, SIMPLE):
            continue
        inner: set[ast.AST] = set()
        own = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
        own |= {name for one in ast.walk(node) if isinstance(one, ast.comprehension) for name in names_in(one.target)}
        for call in (one for one in ast.walk(node) if isinstance(one, (ast.Call, ast.BinOp))):
            if call in inner or names_in(call) & (others | own) or (total := _total(reader, call)) is None:
                continue
            inner.update(ast.walk(call))
            name, whole, weight = f"part_{total[0]}s", total[1], ""
            name = name if not totals else f"{name}_{len(totals) + 1}"
            written = text.text[slice(*text.span(call))]
            for start, end, new in sorted(total[2], reverse=True):
                offset = text.span(call)[0]
                written = written[: start - offset] + new + written[end - offset :]
            if total[0] == "mean":
                weight = f" * (len({reader.part}) / {reader.counts[0]})"
            totals.append((name, f"{written}{weight}"))
            tail.append((*text.span(call), whole.format(name=name)))
    return totals, tail


def taken_along(name: str, code: str) -> str:
    """What a part gives: rows are kept, of a total only what it is so far.

    Args:
        name: The name of what is put together.
        code: What gives a part's share.
    """
    if name.startswith("part_rows"):
        return f"{name}.append({code})"
    extreme = re.match("part_(max|min)s", name)
    return f"{name} = [numpy.{extreme[1]}([*{name}, {code}], axis=0)]" if extreme else f"{name} = [sum({name}, {code})]"


def _changed_names(node: ast.stmt) -> set[str]:
    """Names that a statement binds, or whose object it may change."""
    found = {name for one in ast.walk(node) if isinstance(one, (ast.FunctionDef, ast.ClassDef)) for name in (one.name,)}
    for one in ast.walk(node):
        if isinstance(one, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(one.ctx, ast.Load):
            found |= names_in(one)
        elif isinstance(one, ast.Call):  # `b.sort()`, `shuffle(b)`
            quiet = isinstance(node, SIMPLE) and last_name(one.func) in QUIET
            found |= set() if quiet else names_in(one)
    return found


def _total(reader: RowReader, call: ast.Call | ast.BinOp) -> tuple[str, str, list[Edit]] | None:
    """What a call takes of all rows: its name, the code of the whole, and the changes of one part's."""
    if not has_rows(reader, call) or not is_quiet(call, (), reader.elementwise):
        return None
    if (edits := _small(reader, call)) is not None:
        return "row", reader.library.joined + "({name})", edits
    if isinstance(call, ast.BinOp):
        return _product_of_rows(reader, call)
    name = last_name(call.func)
    method = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) not in ("np", "numpy")
    operand = call.func.value if method else call.args[0] if call.args else None  # type: ignore[attr-defined]
    axes = [*(call.args if method else call.args[1:]), *(one.value for one in call.keywords if one.arg == "axis")]
    others = {one.arg for one in call.keywords} - {"axis"}
    if (
        name not in _TOTALS
        or (reader.library is not NUMPY and name in ("min", "max"))
        or reader.is_users(call)
        or operand is None
        or others
        or len(axes) > 1
        or (axes and ast.unparse(axes[0]) != "0")
    ):
        return None
    rows, edits = _looked_at(reader, operand)
    if rows is None or rows.ndim == 1:
        return None
    whole = {"sum": "sum({name})", "mean": "sum({name})"}.get(name, f"numpy.{name}({{name}}, axis=0)")
    return name, whole, edits


def _product_of_rows(reader: RowReader, node: ast.BinOp) -> tuple[str, str, list[Edit]] | None:
    """`x.T @ x` adds up what each row gives."""
    left = node.left.value if isinstance(node.left, ast.Attribute) and node.left.attr == "T" else None
    if left is None or not isinstance(node.op, ast.MatMult):
        return None
    (rows, edits), (others, more) = _looked_at(reader, left), _looked_at(reader, node.right)
    return None if rows is None or others is None or rows.ndim != 2 else ("product", "sum({name})", [*edits, *more])


def _small(reader: RowReader, call: ast.expr) -> list[Edit] | None:
    """The changes of an expression that gives little of each row; None where it is another one."""
    rows, edits = _looked_at(reader, call)
    return None if rows is None or not reader.is_small(rows) else edits


def _looked_at(reader: RowReader, node: ast.expr) -> tuple[Rows | None, list[Edit]]:
    before = len(reader.edits), len(reader.counts)
    try:
        return reader.value(node), reader.edits[before[0] :]
    except UnfitError:
        return None, []
    finally:
        del reader.edits[before[0] :], reader.counts[before[1] :]


def has_rows(reader: RowReader, node: ast.AST) -> bool:
    """Tell whether code reads a name that stands for rows.

    Args:
        reader: What has read the rows.
        node: The code.
    """
    return any(isinstance(one, ast.Name) and one.id in reader.env for one in ast.walk(node))


def makes_nothing(node: ast.stmt) -> bool:
    """Whether a statement makes no array that counts.

    Args:
        node: The statement.
    """
    quiet = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return isinstance(node, quiet) or not any(isinstance(one, (ast.BinOp, ast.ListComp)) for one in ast.walk(node))
