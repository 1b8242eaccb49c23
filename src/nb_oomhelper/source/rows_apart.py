"""Statements that compute with all rows at once, written as a function that gets some rows at a time."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from nb_oomhelper.source.in_place import is_in_place
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    LOOPS,
    blocks_of,
    changes_of,
    is_at,
    is_long_text,
    last_name,
    names_bound,
    names_in,
    names_reached,
    nodes_above,
    pairs,
    parents_of,
    root_name,
    walk,
)

FUNCTION = "of_rows"
"""What the function is called that gets some rows."""

_NOT_MOVED = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr, ast.Global, ast.Nonlocal, ast.Lambda)
_JOINS = frozenset({"cat", "concat", "concatenate", "stack", "vstack", "hstack", "column_stack"})
_NUMBERS = frozenset(
    {"item", "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
    | {"binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "accuracy_score", "mean_squared_error"}
    | {"mean_absolute_error", "r2_score", "roc_auc_score", "f1_score", "log_loss"}
)
_FITS = frozenset({"fit", "fit_transform", "fit_predict", "partial_fit"})
_OUTSIDE = _FITS | frozenset(
    {"append", "appendleft", "extend", "add", "update", "insert", "pop", "remove", "clear", "setdefault", "put", "push"}
    | {"sort", "reverse", "shuffle", "fill", "copyto", "setattr", "setflags", "resize"}
    | {"write", "save", "savefig", "to_csv", "to_parquet", "dump", "open", "input", "seed", "manual_seed", "next"}
    | {"train"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsApart:
    """What is written.

    Attributes:
        tables: Names of what is cut into parts.
        gone: Names that the statements bound, and that nothing reads: they are not there afterwards.
        kept: Those that stand for all rows then.
        edits: The places that change.
        rank: How little comes out, where there are several ways: the more the less.
        totals: What comes out of the parts is totals, for groups of rows mostly.
    """

    tables: tuple[str, ...]
    gone: frozenset[str]
    kept: tuple[str, ...]
    edits: list[Edit]
    rank: int = 0
    totals: bool = False


def rows_apart(
    text: SourceText,
    body: list[ast.stmt],
    line: int,
    tables: Collection[str],
    is_apart: Callable[[ast.stmt], bool],
    others: Collection[str] = (),
    *,
    no_grad: bool = False,
    results_of: Collection[str] = (),
) -> RowsApart | None:
    """Write what is computed of all rows as a function of some: `nb_oomhelper.in_parts(predict, x)`.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        line: The line that was running, from 1.
        tables: Names of what has the same number of rows.
        is_apart: Whether a statement computes each row by itself, as far as can be read.
        others: Names of what has another number of rows.
        no_grad: No gradients are wanted of it, and nothing says so yet.
        results_of: Functions whose results are kept for all rows, though the code itself reads them no more.

    Returns:
        None where it cannot be written, or where some of it is in parts already.
    """
    found = find_statement(body, line)
    if found is None:
        return None
    block, at, loops = found
    if not _is_movable(block[at], is_apart):
        return None
    if isinstance(block[at], ast.Return):
        start, end = at, at + 1
    else:
        start, end = _around(block, at, tables, is_apart)
    while start < at and not names_in(block[start].value) & {*tables}:  # type: ignore[attr-defined]
        start += 1
    some = block[start:end]
    inputs = _inputs(some, tables)
    if (
        not inputs
        or names_bound(some) & {*others}
        or names_bound(loops) & {*inputs}
        or any(changes_of(some, one) for one in inputs)
    ):
        return None
    read = _read_beside(loops, body, some) | _results_of(some, results_of)
    return _write(text, read, some, inputs, no_grad=no_grad)


def computed_from(body: list[ast.stmt], names: Collection[str]) -> set[str]:
    """Give some names, and those that code computes from them.

    Args:
        body: The code.
        names: The names.
    """
    made = (pair for node in walk(body) for pair in pairs(node, unpacked=True))
    return names_reached(names, ((names_in(value), names_in(target)) for target, value in made))


def joined_after(body: list[ast.stmt], line: int, names: Collection[str]) -> bool:
    """Tell whether code puts what it has made of all rows together later: then all of it is there a second time.

    Args:
        body: The code.
        line: After which line, from 1.
        names: What stands for all rows.
    """
    return any(
        last_name(one.func) in _JOINS and names_in(one).intersection(names)
        for one in walk(body)
        if isinstance(one, ast.Call) and one.lineno > line
    )


def is_quiet(body: list[ast.stmt], given: Collection[str] = ()) -> bool:
    """Tell whether code changes nothing but what it makes itself, as far as can be read.

    Args:
        body: The code.
        given: Names of what it is given, which it must not change.
    """
    own = names_bound(body) - {*given}
    for node in walk(body):
        if isinstance(node, (ast.Global, ast.Nonlocal, ast.Delete)):
            return False
        target = node.target if isinstance(node, ast.AugAssign) else node
        stored = isinstance(target, (ast.Subscript, ast.Attribute)) and not isinstance(target.ctx, ast.Load)
        if (stored or isinstance(node, ast.AugAssign)) and root_name(target) not in own:
            return False
        if isinstance(node, ast.Call) and _changes_outside(node, own):
            return False
    return True


def _changes_outside(call: ast.Call, own: Collection[str]) -> bool:
    name = last_name(call.func) or ""
    if name not in _OUTSIDE and not is_in_place(name):
        return False
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    fitted = name in _FITS and isinstance(owner, ast.Call) and (last_name(owner.func) or "")[:1].isupper()
    if fitted:  # `StandardScaler().fit_transform(x)`
        return False
    return owner is None or root_name(owner) not in own


def find_statement(body: list[ast.stmt], line: int) -> tuple[list[ast.stmt], int, list[ast.stmt]] | None:
    """Find the innermost statement of a line: in which block, where, and the loops around it.

    Args:
        body: The code.
        line: The line, from 1.
    """
    parents = parents_of(walk(body))
    for block in blocks_of(body):
        for at, node in enumerate(block):
            if is_at(node, line) and not hasattr(node, "body"):
                return block, at, [one for one in nodes_above(node, parents) if isinstance(one, LOOPS)]
    return None


def _is_movable(node: ast.stmt, is_apart: Callable[[ast.stmt], bool]) -> bool:
    """Whether a statement computes something, and may do so in a function of its own."""
    if isinstance(node, ast.Assign):
        plain = len(node.targets) == 1 and all(isinstance(one, ast.Name) for one in _targets(node))
    else:
        plain = isinstance(node, ast.Return) and node.value is not None
    if not plain or any(isinstance(one, _NOT_MOVED) for one in ast.walk(node)) or "super" in names_in(node):
        return False
    return not _is_number(node.value) and is_apart(node)  # type: ignore[attr-defined]


def _is_number(value: ast.expr) -> bool:
    """Whether it is one number of all rows."""
    if isinstance(value, ast.BinOp):
        along = {one.arg for one in ast.walk(value) if isinstance(one, ast.keyword)}  # `x.sum(axis=1) / len(y)`
        return not along & {"axis", "dim"} and (_is_number(value.left) or _is_number(value.right))
    if not isinstance(value, ast.Call) or "reduction" in {one.arg for one in value.keywords}:
        return False
    if isinstance(value.func, ast.Name) and value.func.id in ("float", "int", "len"):
        return True
    return last_name(value.func) in _NUMBERS


def _targets(node: ast.Assign) -> list[ast.expr]:
    target = node.targets[0]
    return list(target.elts) if isinstance(target, ast.Tuple) else [target]


def _around(
    block: list[ast.stmt], at: int, tables: Collection[str], is_apart: Callable[[ast.stmt], bool]
) -> tuple[int, int]:
    """From which statement on, and up to which, those beside one can be moved with it."""
    start, end = at, at + 1
    while start and isinstance(block[start - 1], ast.Assign) and _is_movable(block[start - 1], is_apart):
        start -= 1
    made = names_bound(block[start:end]) | {*tables}
    while end < len(block) and isinstance(block[end], ast.Assign) and _is_movable(block[end], is_apart):
        if not names_in(block[end].value) & made:  # type: ignore[attr-defined]
            break
        made |= names_bound([block[end]])
        end += 1
    last = block[end] if end < len(block) else None
    if isinstance(last, ast.Return) and names_in(last) & made and _is_movable(last, is_apart):
        end += 1
    return start, end


def _inputs(some: list[ast.stmt], tables: Collection[str]) -> list[str]:
    """The tables that statements read; none where they read what they bind themselves only later."""
    bound, read = set[str](), dict[str, None]()
    for node in some:
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load) and one.id not in bound:
                read[one.id] = None
        bound |= names_bound([node])
    inputs = [name for name in read if name in tables]
    return inputs if not (read.keys() - {*inputs}) & bound else []


def _write(
    text: SourceText, after: set[str], some: list[ast.stmt], inputs: list[str], *, no_grad: bool
) -> RowsApart | None:
    start, end = text.span(some[0])[0], text.span(some[-1])[1]
    first = text.line_start(start)
    indent, bound, last = text.text[first:start], names_bound(some), some[-1]
    if not text.stands_alone(start, end) or FUNCTION in text.text:
        return None
    after = (after | {*inputs} | _results(some)) & bound  # what has taken the place of a table, too
    given = [name for name in dict.fromkeys(_bound_in_order(some)) if name in after]
    if len(some) == 1 and not no_grad:
        value = last.value  # type: ignore[attr-defined]
        one, two = text.span(value)
        edits = [(one, two, _call(text, value, inputs))]
        return RowsApart(tables=tuple(inputs), gone=frozenset(), kept=tuple(given), edits=edits)
    ended = isinstance(last, ast.Return)
    if any(map(is_long_text, walk(some))) or (ended and no_grad):  # texts would be indented
        return None
    cut, call = textwrap.dedent(text.text[first:end]), f"nb_oomhelper.in_parts({FUNCTION}, {', '.join(inputs)})"
    lines = [
        *(["@torch.no_grad()"] if no_grad else []),
        f"def {FUNCTION}({', '.join(inputs)}):",
        textwrap.indent(cut, "    "),
        *([] if ended else [f"    return {', '.join(given)}"]),
        f"return {call}" if ended else f"{', '.join(given)} = {call}",
    ]
    written = textwrap.indent("\n".join(lines), indent)
    gone, edits = frozenset(bound - after), [(first, end, written)]
    return RowsApart(tables=tuple(inputs), gone=gone, kept=tuple(given), edits=edits)


def _results(some: list[ast.stmt]) -> set[str]:
    """Names that statements bind and do not read: what comes out of them."""
    return names_bound(some) - {
        one.id for one in walk(some) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)
    }


def _results_of(some: list[ast.stmt], functions: Collection[str]) -> set[str]:
    """Names of what some functions give: `logits = model(x)`."""
    calls = [one for one in some if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call)]
    return names_bound(one.targets[0] for one in calls if {last_name(one.value.func)} & {*functions})  # type: ignore[attr-defined]


def _call(text: SourceText, value: ast.expr, inputs: list[str]) -> str:
    """`nb_oomhelper.in_parts(predict, x)`, where the call is of the tables alone; else with a lambda."""
    start, end = text.span(value)
    names = ", ".join(inputs)
    if isinstance(value, ast.Call) and not value.keywords:
        plain = not any(isinstance(one, ast.Call) for one in ast.walk(value.func))
        one, two = text.span(value.func)
        if plain and [getattr(one, "id", "") for one in value.args] == inputs:
            return f"nb_oomhelper.in_parts({text.text[one:two]}, {names})"
    return f"nb_oomhelper.in_parts(lambda {names}: {text.text[start:end]}, {names})"


def _bound_in_order(some: list[ast.stmt]) -> Iterator[str]:
    for node in some:
        if isinstance(node, ast.Assign):
            yield from (one.id for one in _targets(node) if isinstance(one, ast.Name))


def _read_beside(around: list[ast.stmt], body: list[ast.stmt], some: list[ast.stmt]) -> set[str]:
    """What is read after some statements, or by what is repeated with them."""
    own, end = {id(one) for one in walk(some)}, some[-1].end_lineno or 0
    reads = [one for one in walk(body) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Store)]
    again = {id(one) for one in walk(around)}
    return {one.id for one in reads if id(one) not in own and (one.lineno > end or id(one) in again)}
