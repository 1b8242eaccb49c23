"""Statements that make a large array row by row and keep little of each row, written so that they do it in parts."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from nb_oomhelper.source.disk_puts import changes
from nb_oomhelper.source.in_parts import PARTS
from nb_oomhelper.source.letting_go import is_on_the_way
from nb_oomhelper.source.row_functions import Find, FunctionReader, bound_in, no_function
from nb_oomhelper.source.row_loops import OF_PART, Run, before_loop, checkpointed, loop_over
from nb_oomhelper.source.row_sources import NUMPY, TORCH, Library, Rows, UnfitError
from nb_oomhelper.source.row_totals import SIMPLE, makes_nothing, read_totals
from nb_oomhelper.source.row_values import RowReader
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.tensor_code import as_numpy, pair_in
from nb_oomhelper.source.tree import is_at, last_name, names_bound, names_in, reads_by_name, walk

_BUILTINS = frozenset({"sum", "len"})  # what is written calls them


@dataclass(frozen=True, slots=True, kw_only=True)
class RowParts:
    """Statements written in parts.

    Attributes:
        edits: The changes.
        alone: All that these statements make is made in parts.
        wide: What is kept of the rows is more than a value or a few of each.
        gone: Names that stand for nothing any more.
        axes: The most axes that an array has in the loop.
        tables: How many of what is kept have two axes; 0 where one may have more.
    """

    edits: list[Edit]
    alone: bool
    wide: bool
    gone: frozenset[str] = frozenset()
    axes: int = 0
    tables: int = 0


def in_row_parts(
    text: SourceText,
    body: list[ast.stmt],
    line: int,
    shapes: Mapping[str, tuple[int, ...]],
    refused: tuple[int, ...],
    elementwise: Callable[[str], bool],
    taken: Collection[str],
    *,
    at_top: bool,
    functions: Find = no_function,
    whole: Collection[str] = (),
    library: Library = NUMPY,
    parts: int = PARTS,
    again: bool = False,
) -> RowParts | None:
    """Write a loop over parts of the rows around what makes a large array, and what takes little of each row.

    Args:
        text: The source.
        body: The statements of the cell, or of the function, that failed.
        line: Where it failed.
        shapes: Shapes of arrays that are there, by the name or path in the source.
        refused: The shape of the array for which there was no room.
        elementwise: Whether a function of the notebook, by its name, computes element by element.
        taken: Names that must stay as they are.
        at_top: The statements are a cell's: what they bind stays.
        functions: Finds the function of the notebook that is called.
        whole: Names of what has as many rows, and cannot be cut: lists, tables.
        library: Whose arrays they are.
        parts: In how many.
        again: Gradients go back through it: each part is computed once more then, and not kept.

    Returns:
        The changes; None where it cannot be.
    """
    own = bound_in(text.tree, body)
    told, body = body, as_numpy(body, shapes) if library is TORCH else body
    block = None if reads_by_name(body) else _block_at(body, line)
    used = {one.id for one in walk(body) if isinstance(one, ast.Name)}.union(taken if at_top else ())
    part = next((one for one in ("part", "rows", "part_rows") if one not in used), None)
    if block is None or part is None or _BUILTINS & own.union(taken):
        return None
    at = next(at for at, one in enumerate(block) if is_at(one, line))
    for first, last in itertools.product(range(at + 1), range(len(block), at, -1)):
        reader = FunctionReader(text, shapes, refused, elementwise, part)
        reader.may_be_few = not at_top or refused[0] < parts
        reader.functions, reader.own, reader.library = functions, own, library
        reader.leave(whole)
        run = _read(text, reader, block[first:last], block[last:], parts)
        if run is None or not _has_failed_one(text, run, block[first : at + 1]):
            continue
        if again and _is_changed(told, run, in_block=block is not body):
            continue
        if edits := _written(text, body, reader, run, used, at_top=at_top, again=again):
            alone = block is body and all(map(makes_nothing, block[:first]))
            gone = frozenset(name for name, rows in reader.env.items() if not reader.is_small(rows))
            kept = [rows.ndim for name, rows in reader.env.items() if name not in gone and not rows.small]
            tables = len(kept) if {*kept} == {2} and not run.returned else 0
            return RowParts(edits=edits, alone=alone, wide=run.wide, gone=gone, axes=run.axes, tables=tables)
    return None


def _has_failed_one(text: SourceText, run: Run, block: list[ast.stmt]) -> bool:
    """Whether the last of some statements is in the loop, or what it takes of all rows."""
    start, end = text.span(block[-1])
    return len(run.inside) + len(run.hoisted) >= len(block) or any(start <= edit[0] < end for edit in run.tail)


def _is_changed(body: list[ast.stmt], run: Run, *, in_block: bool) -> bool:
    """Whether what parts are made of may be another when gradients go back: it is changed in place behind them."""
    nodes = [node for node, _ in run.inside]
    first, last = nodes[0].lineno, max(one.end_lineno or 0 for one in nodes)
    names = run.read - names_bound(nodes)
    lines = [getattr(one, "lineno", 0) for one in walk(body) if changes(one, names, lambda _: None)]
    return any(line > last or (in_block and line < first) for line in lines)


def _block_at(body: list[ast.stmt], line: int) -> list[ast.stmt] | None:
    """The innermost statements of which one failed, not within a loop's or another statement's head."""
    for node in body:
        if is_at(node, line):
            if isinstance(node, SIMPLE):
                return body
            inner = getattr(node, "body", None)
            return _block_at(inner, line) if isinstance(node, (ast.For, ast.With, ast.If)) and inner else None
    return None


def _read(text: SourceText, reader: RowReader, block: list[ast.stmt], rest: list[ast.stmt], parts: int) -> Run | None:
    run = Run(parts=parts)
    for number, node in enumerate(block):
        before = len(reader.edits), len(reader.counts), len(reader.drawn)
        try:
            inside = _goes_inside(reader, node, run)
        except UnfitError:
            inside = False
        edits = reader.edits[before[0] :]
        if inside:
            run.inside.append((node, edits))
            run.read |= names_in(node)
            run.axes = reader.widest
        elif not run.inside:
            return None
        elif inside is None and isinstance(node, ast.Assign):
            run.hoisted.append(node)
            reader.bind(node.targets[0].id, node.value)  # type: ignore[attr-defined]
        else:
            del reader.edits[before[0] :], reader.counts[before[1] :], reader.drawn[before[2] :]
            rest = [*block[number:], *rest]
            break
    run.totals, run.tail = read_totals(text, reader, rest)
    return run if reader.counts else None


def _goes_inside(reader: RowReader, node: ast.stmt, run: Run) -> bool | None:
    """Whether a statement is done part by part; None where it may be done before."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return _assigned(reader, node.targets[0], node.value, run)
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and _is_own(reader, node.target):
        changed = reader.value(ast.BinOp(node.target, node.op, node.value)) or Rows()
        reader.check(node.value)
        reader.env[node.target.id] = changed
        return True
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and last_name(call.func) == "fill_diagonal" and len(call.args) == 2:
        target, value = call.args
        if _is_own(reader, target) and not reader.value(value):
            reader.check(value)
            numbers, (start, end) = reader.library.numbers, reader.text.span(call)
            written = reader.text.text[slice(*reader.text.span(value))]
            reader.edits.append(
                (start, end, f"{ast.unparse(target)}[{numbers}(len({reader.part})), {reader.part}] = {written}")
            )
            return True
    if isinstance(node, ast.Return) and node.value is not None:
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        rows = [reader.value(one) for one in values]
        reader.check(node.value)
        if all(one is not None and reader.is_small(one) for one in rows):
            run.returned = list(values)
            run.wide = any(one is not None and not one.small for one in rows)
            return True
    return False


def _is_own(reader: RowReader, node: ast.expr) -> bool:
    """Whether it is an array that the loop makes: to change a part of another one would change nothing of it."""
    return isinstance(node, ast.Name) and node.id in reader.env and not reader.env[node.id].shared


def _assigned(reader: RowReader, target: ast.expr, value: ast.expr, run: Run) -> bool | None:
    if isinstance(target, ast.Tuple) and (inner := pair_in(value)) is not None:
        return _two_assigned(reader, target.elts, inner, run)
    rows = reader.value(value)
    reader.check(value)
    if isinstance(target, ast.Subscript):
        mask = isinstance(target.slice, ast.Compare) and _is_own(reader, target.value) and reader.value(target.slice)
        reader.check(target.slice)
        return bool(mask) and rows is None
    if not isinstance(target, ast.Name):
        return False
    before = run.read | names_in(value)
    if rows is None:
        return None if target.id not in reader.env and target.id not in before else False
    if isinstance(value, ast.Name) or (target.id not in reader.env and target.id in before):
        return False  # two names of one array; or the next part would find this one's rows
    reader.env[target.id] = rows
    return True


def _two_assigned(reader: RowReader, targets: list[ast.expr], value: ast.expr, run: Run) -> bool:
    """`best, at = table.topk(5, dim=1)`."""
    rows, names = reader.value(value), [one.id for one in targets if isinstance(one, ast.Name)]
    reader.check(value)
    if rows is None or len({*names}) != len(targets) or {*names} & (run.read | names_in(value) | reader.env.keys()):
        return False
    reader.env |= dict.fromkeys(names, rows)
    return True


def _written(
    text: SourceText,
    body: list[ast.stmt],
    reader: FunctionReader,
    run: Run,
    used: set[str],
    *,
    at_top: bool,
    again: bool,
) -> list[Edit]:
    first, inside = run.inside[0][0], [node for node, _ in run.inside]
    last = max(text.span(one)[1] for one in [*inside, *run.hoisted])
    start, end = text.line_start(text.span(first)[0]), text.line_end(last)
    indent = text.text[start : text.span(first)[0]]
    read = _read_elsewhere(text, body, reader, run)
    kept = [name for name, rows in reader.env.items() if reader.is_small(rows) and (at_top or name in read)]
    run.wide |= any(not reader.env[name].small for name in kept)
    helpers = [f"{name}_parts" for name in kept]
    if read - set(kept) or not (kept or run.totals or run.returned):
        return []
    if any(reader.env[name].shared for name in kept):  # who changes it changes what it looks into
        return []
    if indent.strip() or any(map(_spans_text, inside)) or _between(text, start, end, [*inside, *run.hoisted]):
        return []
    if at_top and any(name not in kept and not is_on_the_way(body, name) for name in reader.env):
        return []  # a result
    outer = {name for one in walk(body) if isinstance(one, (ast.Global, ast.Nonlocal)) for name in one.names}
    if outer & reader.env.keys():
        return []
    if used.intersection([*helpers, *(name for name, _ in run.totals), *(OF_PART if again else ())]):
        return []
    lines = [*before_loop(text, run, helpers), *(checkpointed if again else loop_over)(text, reader, run, kept)]
    joined = reader.library.joined
    lines += [f"{name} = {joined}({name}_parts)" for name in kept]
    if run.returned:
        whole = [f"{joined}(returned_{number})" for number in range(len(run.returned))]
        lines.append(f"return {', '.join(whole)}")
    if at_top:
        inner = [*OF_PART] if again else [name for name in reader.env if name not in kept]
        gone = [*inner, *helpers, reader.part]
        lines.append(f"del {', '.join(gone)}")
    return [(start, end, indent + "\n".join(lines).replace("\n", f"\n{indent}")), *run.tail]


def _read_elsewhere(text: SourceText, body: list[ast.stmt], reader: RowReader, run: Run) -> set[str]:
    """Names of rows that other statements read, but for what is put together of the parts."""
    inside = {id(one) for node in [*(node for node, _ in run.inside), *run.hoisted] for one in ast.walk(node)}
    names = [one for one in walk(body) if isinstance(one, ast.Name) and one.id in reader.env and id(one) not in inside]
    replaced = [(start, end) for start, end, _ in run.tail]
    places = [(text.span(one)[0], one.id) for one in names]
    return {name for place, name in places if not any(start <= place < end for start, end in replaced)}


def _between(text: SourceText, start: int, end: int, nodes: list[ast.stmt]) -> bool:
    """Whether anything but these statements, and comments, stands between two places."""
    rest = sorted(text.span(node) for node in nodes)
    return any(
        start <= token.start < end and not any(begin <= token.start < stop for begin, stop in rest)
        for token in text.tokens
    )


def _spans_text(node: ast.stmt) -> bool:
    return any(
        isinstance(one, (ast.Constant, ast.JoinedStr)) and one.end_lineno != one.lineno for one in ast.walk(node)
    )
