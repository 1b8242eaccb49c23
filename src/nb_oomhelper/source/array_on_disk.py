"""Arrays that a loop fills part by part, `paths[t] = paths[t - 1] * step`: written so that they lie on disk."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nb_oomhelper.source.demand_reads import Find, Reads
from nb_oomhelper.source.in_place import FUNCTIONS, METHODS
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    LOOPS,
    changes_of,
    is_name,
    last_name,
    names_in,
    nodes_above,
    pairs,
    parents_of,
    reads_all_names,
    root_name,
    statement_around,
    walk,
)

_MAKERS = frozenset({f"{module}.{name}" for module in ("np", "numpy") for name in ("zeros", "ones", "empty", "full")})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayOnDisk:
    """What is written.

    Attributes:
        name: The array.
        made: What makes it.
        edits: The places that change.
        read: All that is made of it is known to need a few rows at a time.
        returned: The same, but that it is given back, or what is computed of it.
    """

    name: str
    made: ast.Call
    edits: list[Edit]
    read: bool
    returned: bool


def arrays_on_disk(text: SourceText, body: list[ast.stmt], find: Find) -> Iterator[ArrayOnDisk]:
    """Find arrays that are filled part by part, along one axis, and are not changed in any other way.

    Args:
        text: The source.
        body: The statements of one function, or of the cell.
        find: Finds a function of the notebook by its name.
    """
    if reads_all_names(body) or any(isinstance(one, (ast.Global, ast.Nonlocal)) for one in walk(body)):
        return
    parents = parents_of(walk(body))
    bound = [(target.id, value) for node in walk(body) for target, value in pairs(node) if isinstance(target, ast.Name)]
    for name, made in bound:
        if not isinstance(made, ast.Call) or ast.unparse(made.func) not in _MAKERS or not made.args:
            continue
        again = [value.lineno for one, value in bound if one == name and value is not made]
        axis = _axis(body, parents, name, min(again, default=None))
        if (
            axis is None
            or min(again, default=made.lineno) < made.lineno
            or any(isinstance(one, ast.Starred) for one in made.args)
        ):
            continue
        start, end = text.span(made.func)
        bracket = text.token_from(end)
        edits = [(start, start, "nb_oomhelper.ArrayOnDisk("), (bracket.start, bracket.end, ", ")]
        edits += [(text.span(made)[1] - 1, text.span(made)[1] - 1, f", axis={axis}")] if axis else []
        reads, last = Reads(text.tree, find), max(one.lineno for one in _stores(body, name))
        few = reads.are_few([one for one in body if one.lineno > last], [name])
        yield ArrayOnDisk(
            name=name, made=made, edits=edits, read=few and not reads.returned, returned=few and reads.returned
        )


def _stores(body: list[ast.stmt], name: str) -> list[ast.Subscript]:
    items = [one for one in walk(body) if isinstance(one, ast.Subscript) and is_name(one.value, name)]
    return [one for one in items if isinstance(one.ctx, ast.Store)]


def _axis(body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST], name: str, end: int | None) -> int | None:
    """Along which axis it is written; None where it is not written so, or read in a way in which that would be slow."""
    items = [one for one in walk(body) if isinstance(one, ast.Subscript) and is_name(one.value, name)]
    stores = _stores(body, name)
    in_loops = [one for one in stores if _is_in_loop(one, parents)]
    axes = [_place(one) if _is_by_number(one, parents) else None for one in in_loops]
    calls = [one for one in walk(body) if isinstance(one, ast.Call)]
    if not axes or None in axes or len({*axes}) > 1 or any(_changes(one, name) for one in calls):
        return None
    if end is not None and max(one.lineno for one in stores) >= end:
        return None
    axis = axes[0]
    for one in items:
        if not isinstance(one.ctx, ast.Load) and not isinstance(statement_around(one, parents), ast.Assign):
            return None  # `x[t] += 1`, `del x[0]`
        if _is_in_loop(one, parents) and _place(one) != axis:
            return None
        above = parents.get(one)
        if isinstance(above, (ast.Subscript, ast.Attribute)) and not isinstance(above.ctx, ast.Load):
            return None
    return None if any(changes_of(body, one) for one in _names_of_items(body, name)) else axis


def _changes(call: ast.Call, name: str) -> bool:
    """Whether a call writes into it: `x.sort()`, `np.cumsum(y, out=x)`, `np.copyto(x, y)`."""
    method = call.func if isinstance(call.func, ast.Attribute) and is_name(call.func.value, name) else None
    into = last_name(call.func) in FUNCTIONS or any(one.arg == "out" for one in call.keywords)
    return (into and name in names_in(call)) or (method is not None and method.attr in METHODS)


def _names_of_items(body: list[ast.stmt], name: str) -> set[str]:
    """Names that stand for what is read of it."""
    found = set[str]()
    for node in walk(body):
        for target, value in pairs(node):
            if isinstance(target, ast.Name) and root_name(value) == name:
                found.add(target.id)
        if isinstance(node, (ast.For, ast.comprehension)) and root_name(node.iter) == name:
            found |= names_in(node.target)
    return found


def _place(item: ast.Subscript) -> int | None:
    """Along which axis an index is of one part: `x[t]`, `x[t, :]` of the first, `x[:, t]` of the second."""
    parts = item.slice.elts if isinstance(item.slice, ast.Tuple) else [item.slice]
    single = [at for at, one in enumerate(parts) if not isinstance(one, ast.Slice)]
    if any(isinstance(one, ast.Constant) and one.value in (None, Ellipsis) for one in parts):
        return None
    if len(parts) == 1 and isinstance(parts[0], ast.Slice):
        return 0  # some parts
    return single[0] if len(single) == 1 and single[0] < 2 else None


def _is_in_loop(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    return any(isinstance(one, LOOPS) for one in nodes_above(node, parents))


def _is_by_number(item: ast.Subscript, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether an index is the number of a loop's round, or computed from it: `x[t + 1]`, and not `x[mask]`."""
    numbers = set[str]()
    for one in nodes_above(item, parents):
        if isinstance(one, ast.For):
            numbers |= _numbers_of(one.target, one.iter)
    parts = item.slice.elts if isinstance(item.slice, ast.Tuple) else [item.slice]
    whole = [one.lower or one.upper if isinstance(one, ast.Slice) else one for one in parts]
    return any(isinstance(one, (ast.Name, ast.BinOp)) and names_in(one) & numbers for one in whole)


def _numbers_of(target: ast.expr, of: ast.expr) -> set[str]:
    name = last_name(of.func) if isinstance(of, ast.Call) and of.args else ""
    if name in ("range", "trange"):
        return names_in(target)
    if name == "enumerate" and isinstance(target, ast.Tuple):
        return names_in(target.elts[0])
    return _numbers_of(target, of.args[0]) if name == "tqdm" and isinstance(of, ast.Call) else set()
