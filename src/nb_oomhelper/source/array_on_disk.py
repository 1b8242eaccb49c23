"""Arrays that a loop fills part by part, `paths[t] = paths[t - 1] * step`: written so that they lie on disk."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nb_oomhelper.source.demand_reads import Find, Reads
from nb_oomhelper.source.disk_puts import CHANGES, changes, parts_named
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tree import (
    LOOPS,
    is_name,
    last_name,
    named_values,
    names_in,
    nodes_above,
    pairs,
    parents_of,
    reads_all_names,
    root_name,
    statement_around,
    walk,
)

_FORM = frozenset({"shape", "ndim", "dtype", "size", "nbytes"})
_OF_ARRAYS = frozenset({"from_numpy", "tensor", "as_tensor", "isinstance", "type", "id"})  # ours is none
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
    bound = named_values(body)
    for name, made in bound:
        if not isinstance(made, ast.Call) or not _makes_numbers(made):
            continue
        again = min((value.lineno for one, value in bound if one == name and value is not made), default=None)
        axis = _axis(body, parents, name, again)
        if axis is None or (again or made.lineno) < made.lineno or _is_in_use(body, parents, name, find):
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


def _makes_numbers(made: ast.Call) -> bool:
    """Whether it makes an array of numbers, all alike: `np.full((n, m), np.nan)`, and not `np.full((n, m), row)`."""
    function, given = ast.unparse(made.func), [*made.args, *(one.value for one in made.keywords)]
    if function not in _MAKERS or not made.args or any(isinstance(one, ast.Starred) for one in made.args):
        return False
    if any(ast.unparse(one) in ("object", "'O'", "'object'", "np.object_") for one in given):
        return False
    fill = given[1:2] if last_name(made.func) == "full" else []
    fill = [one.operand if isinstance(one, ast.UnaryOp) else one for one in fill]
    return all(isinstance(one, ast.Constant) or ast.unparse(one) in ("np.nan", "np.inf") for one in fill)


def _is_in_use(body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST], name: str, find: Find) -> bool:
    """Whether more than an item of it has another name while it is still written to, or is given to what changes it."""
    nodes, stores = [*walk(body)], _stores(body, name)
    if any(changes(one, {name}, find) for one in nodes if isinstance(one, (ast.Call, ast.Expr))):
        return True
    parts = parts_named([name], nodes) | _of_methods(nodes, name)
    if any(changes(one, parts, find) for one in nodes):
        return True
    last = max(one.end_lineno or 0 for one in map(partial(_loop_of, parents), stores))
    written = {ast.unparse(one.slice) for one in stores}
    reads = [one for one in nodes if is_name(one, name) and isinstance(one.ctx, ast.Load)]  # type: ignore[attr-defined]
    return any(_is_held(one, parents, written, before=one.lineno <= last) for one in reads)  # type: ignore[attr-defined]


def _of_methods(nodes: Sequence[ast.AST], name: str) -> set[str]:
    """Names of what methods of it give, which may look into it: `flat = x.ravel()`."""
    return {
        target.id
        for node in nodes
        for target, value in pairs(node)
        if isinstance(target, ast.Name) and isinstance(value, ast.Call) and root_name(value.func) == name
    }


def _is_held(node: ast.AST, parents: Mapping[ast.AST, ast.AST], written: set[str], *, before: bool) -> bool:
    """Whether what is read there may still be in use when it is written to, or must be an array of NumPy's."""
    above = parents.get(node)
    call = above if isinstance(above, ast.Call) else None
    if isinstance(above, ast.Attribute) and above.attr in _FORM:
        return False
    if call is not None and last_name(call.func) in _OF_ARRAYS:
        return True
    if not isinstance(above, ast.Subscript) or above.value is not node:
        return before and (call is None or last_name(call.func) != "len")
    outer = parents.get(above) if isinstance(above.ctx, ast.Load) else None
    if isinstance(outer, ast.Call) and last_name(outer.func) in CHANGES:  # `kept.append(x[t])`
        return True
    return before and isinstance(outer, ast.Assign) and (_has_slice(above) or ast.unparse(above.slice) in written)


def _loop_of(parents: Mapping[ast.AST, ast.AST], node: ast.AST) -> ast.stmt:
    """The outermost loop around a node, or else its statement."""
    loops = [one for one in nodes_above(node, parents) if isinstance(one, (ast.For, ast.While))]
    return loops[-1] if loops else statement_around(node, parents)  # type: ignore[return-value]


def _has_slice(item: ast.Subscript) -> bool:
    """Whether several parts are read, `x[t - 3 : t]`: what is read is looked into as long as it has a name."""
    parts = item.slice.elts if isinstance(item.slice, ast.Tuple) else [item.slice]
    return isinstance(item.ctx, ast.Load) and all(isinstance(one, ast.Slice) for one in parts)


def _stores(body: list[ast.stmt], name: str) -> list[ast.Subscript]:
    items = [one for one in walk(body) if isinstance(one, ast.Subscript) and is_name(one.value, name)]
    return [one for one in items if isinstance(one.ctx, ast.Store)]


def _axis(body: list[ast.stmt], parents: Mapping[ast.AST, ast.AST], name: str, end: int | None) -> int | None:
    """Along which axis it is written; None where it is not written so, or read in a way in which that would be slow."""
    items = [one for one in walk(body) if isinstance(one, ast.Subscript) and is_name(one.value, name)]
    stores = _stores(body, name)
    in_loops = [one for one in stores if _is_in_loop(one, parents)]
    axes = [_place(one) if _is_by_number(one, parents) else None for one in in_loops]
    if not axes or None in axes or len({*axes}) > 1 or not all(map(_is_plain, {*stores} - {*in_loops})):
        return None
    if end is not None and max(one.lineno for one in stores) >= end:
        return None
    axis = axes[0]
    for one in items:
        stored = isinstance(statement_around(one, parents), ast.Assign) and not isinstance(parents.get(one), ast.Tuple)
        if not isinstance(one.ctx, ast.Load) and not stored:
            return None  # `x[t] += 1`, `del x[0]`, `x[0], x[1] = x[1], x[0]`
        if _is_in_loop(one, parents) and _place(one) != axis:
            return None
        above = parents.get(one)
        if isinstance(above, (ast.Subscript, ast.Attribute)) and not isinstance(above.ctx, ast.Load):
            return None
    return axis


def _is_plain(item: ast.Subscript) -> bool:
    """Whether an index is of numbers that stand there, and of slices: `x[0]`, `x[:, -1]`."""
    parts = item.slice.elts if isinstance(item.slice, ast.Tuple) else [item.slice]
    parts = [one.operand if isinstance(one, ast.UnaryOp) else one for one in parts]
    return all(isinstance(one, ast.Slice) or type(getattr(one, "value", None)) is int for one in parts)


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
