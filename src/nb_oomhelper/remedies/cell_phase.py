"""What was going on in the failed cell, loading, training or inference, where the traceback does not tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.event import OomEvent, Phase
from nb_oomhelper.records.holdings import Holdings
from nb_oomhelper.remedies.cell_source import Cell
from nb_oomhelper.remedies.notebook import Notebook
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.tree import LOOPS, is_at, last_name, walk

_WORTH_SAYING = 1 << 20  # bytes of an autograd graph
_TRAINS = frozenset({".backward", ".zero_grad", ".train_step", ".training_step"})
_WITHOUT_GRAD = frozenset({"no_grad", "inference_mode"})
_ANSWERS = frozenset({".generate", ".evaluate", ".predict"})
_BOTH = frozenset({"forward", "__call__", "__init__"})
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_TRAINS_HERE = frozenset({"backward", "zero_grad", "manual_backward", "train_on_batch", "grad"})


def tell_phase(event: OomEvent, held: Holdings, notebook: Notebook) -> Phase:
    """Tell what was going on: as the traceback does, else as the code on the way to the error does, else as the cell.

    A graph that the cell keeps is one that nobody needs, unless something in the notebook trains.

    Args:
        event: What failed.
        held: Who keeps memory, with the bytes of graphs.
        notebook: What the failed cell uses.
    """
    if event.phase != "unknown":
        return event.phase
    written = notebook.written
    kept = sum(dict(held.rows[index].parts).get("graph", 0) for index in held.of_kind("failed_cell"))
    graph = kept >= _WORTH_SAYING or bool(written and written.autograd)
    way = None if written is None or not graph else phase_on_way(written)
    if way is not None:
        return way
    trains = any(row.role == "optimizer" for row in held.rows) or bool(notebook.trainers)
    return phase_of(notebook.cell, kept >= _WORTH_SAYING and not trains)


def phase_on_way(written: Written) -> Phase | None:
    """Tell whether the graph that was being made is trained with: by the loops and blocks that led to the error.

    Args:
        written: What the notebook's code says.

    Returns:
        "train" where one of them goes backward; "infer" where there is a loop and none does; None where neither tells.
    """
    looped = False
    for body, line in _way(written):
        loop = _innermost(body, line)
        if _goes_back(body if loop is None else loop.body, line) or (loop is not None and _goes_back_with(body, loop)):
            return "train"
        looped |= loop is not None or any(isinstance(one, _COMPREHENSIONS) and is_at(one, line) for one in walk(body))
    return "infer" if looped else None


def _way(written: Written) -> Iterator[tuple[list[ast.stmt], int]]:
    """The code on the way to the error, but for what both training and inference go through."""
    cell = written.read(written.cell.source)
    for step in written.steps:
        if not step.function and cell is not None:
            yield cell.tree.body, step.line
        one = written.definition_of(step) if step.function not in _BOTH else None
        function = None if one is None else written.function(one)
        if function is not None:
            yield function[1].body, step.line


def _innermost(body: list[ast.stmt], line: int) -> ast.For | ast.AsyncFor | ast.While | None:
    around = [one for one in walk(body) if isinstance(one, LOOPS) and is_at(one, line)]
    return max(around, key=lambda one: one.lineno, default=None)


def _goes_back(block: list[ast.stmt], line: int) -> bool:
    """Whether a block trains, beside the loops and functions in it that were not running."""
    for node in block:
        other = isinstance(node, (*LOOPS, ast.FunctionDef, ast.ClassDef))
        if other and not is_at(node, line):
            continue
        inner = [getattr(node, name, None) for name in ("body", "orelse", "finalbody", "handlers")]
        blocks = [part for part in inner if isinstance(part, list) and part]
        if any(_goes_back(part, line) for part in blocks):
            return True
        if not blocks and any(
            isinstance(one, ast.Call) and last_name(one.func) in _TRAINS_HERE for one in ast.walk(node)
        ):
            return True
    return False


def _goes_back_with(body: list[ast.stmt], loop: ast.For | ast.AsyncFor | ast.While) -> bool:
    """Whether code behind a loop goes backward with a name that the loop makes: a sum of losses."""
    made = {one.id for one in walk(loop.body) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    made |= {one.func.value.id for one in walk(loop.body) if _is_append(one)}  # type: ignore[attr-defined]
    later = [
        one
        for one in walk(body)
        if isinstance(one, ast.Call) and one.lineno > (loop.end_lineno or 0) and last_name(one.func) in _TRAINS_HERE
    ]
    return any(isinstance(part, ast.Name) and part.id in made for call in later for part in ast.walk(call))


def _is_append(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "append" and isinstance(called.value, ast.Name)


def phase_of(cell: Cell | None, graph: bool) -> Phase:
    """Tell what a cell does, where neither the traceback nor the way to the error did.

    Args:
        cell: The cell.
        graph: Whether the failed cell keeps an autograd graph, and nothing in the notebook trains.
    """
    if cell is None:
        return "unknown"
    if cell.words & _TRAINS:
        return "train"
    if cell.words & _WITHOUT_GRAD:
        return "infer"
    return "infer" if graph or cell.words & _ANSWERS else "unknown"
