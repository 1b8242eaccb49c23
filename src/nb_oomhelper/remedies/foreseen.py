"""Classic mistakes that a cell's code shows before it is run: each is one that surely keeps memory for nothing.

The same readers find them as after an error (`code_mistakes.py`). There bytes tell whether a mistake matters; here
nothing has been kept yet, so the text has to tell that there is a graph, and that nobody goes back through it.
Nothing of the user's runs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nb_oomhelper.records.foreseen import Foreseen
from nb_oomhelper.remedies.cell_needs import needed_among
from nb_oomhelper.remedies.cell_source import read_cell
from nb_oomhelper.remedies.evaluating import find_graphs_not_needed
from nb_oomhelper.remedies.kept_graphs import find_kept_graphs, keepers_in
from nb_oomhelper.remedies.notebook import inspect_notebook
from nb_oomhelper.remedies.scopes import Scope, read_scopes, told
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import rewriting
from nb_oomhelper.source.graphs import loop_around
from nb_oomhelper.source.lighter import find_errors
from nb_oomhelper.source.tree import last_name, walk


def foresee(variables: Mapping[str, object], source: str, inputs: Sequence[str] = ()) -> list[Foreseen]:
    """Find the mistakes in a cell that is about to run, and in the functions of the notebook that it uses.

    Args:
        variables: The user's names and their objects.
        source: The cell's source.
        inputs: Sources of the cells that ran, by number.

    Returns:
        By line, those of the cell itself first; none where the cell cannot be read, or gradients are switched off.
    """
    torch = sys.modules.get("torch")
    if torch is None and "torch" not in source and "concat" not in source:
        return []
    cell = read_cell(source)
    if cell is None:
        return []
    used = needed_among(cell.needs, variables) | cell.used.intersection(variables)
    known = {name: variables[name] for name in used}
    written = inspect_notebook(known, source, inputs).written
    if written is None:
        return []
    scopes = read_scopes(written, known)
    found = [one for scope in scopes for one in _frames(scope)]
    if "torch" in source or torch is not None:
        found += [one for scope in scopes for one in (*_errors(scope), *_retries(scope))]
        if _is_grad_enabled(torch) and "set_grad_enabled" not in written.cell.words:
            found += [one for scope in scopes for one in _of_graphs(scope, scopes, written, known)]
    places = {(one.cell, one.line, one.before): one for one in found}
    return sorted(places.values(), key=lambda one: (one.cell is not None, one.cell or 0, one.line))


def _is_grad_enabled(torch: Any) -> bool:
    enabled = getattr(getattr(torch, "_C", None), "is_grad_enabled", None)
    return enabled is None or bool(enabled())


def _of_graphs(scope: Scope, scopes: list[Scope], written: Written, known: Mapping[str, object]) -> Iterator[Foreseen]:
    if scope.function is None or not scope.graphs.is_off(scope.function):
        yield from find_kept_graphs(scope, scopes, written)
        yield from find_graphs_not_needed(scope, scopes, written, known)


def _errors(scope: Scope) -> Iterator[Foreseen]:
    """`errors.append(e)`, where what was tried is a model's work: an error keeps its frames, and they keep tensors."""
    for node in _attempts(scope):
        if loop_around(scope.graphs, node) is None:
            continue
        tried = [one for one in walk(node.body) if isinstance(one, ast.Call)]
        if any(ast.unparse(one.func) in scope.graphs.models or last_name(one.func) == "backward" for one in tried):
            body: list[ast.stmt] = [node]
            for keeper in keepers_in(body):
                yield from told(scope, "errors", find_errors(scope.text, body, keeper), keeper)


def _retries(scope: Scope) -> Iterator[Foreseen]:
    """A smaller attempt within `except OutOfMemoryError`: until that ends the error keeps the larger one."""
    for node in _attempts(scope):
        for handler in node.handlers:
            kind = "" if handler.type is None else ast.unparse(handler.type)
            again = {last_name(one.func) for one in walk(node.body) if isinstance(one, ast.Call)}
            calls = [one for one in walk(handler.body) if isinstance(one, ast.Call) and last_name(one.func) in again]
            if "OutOfMemoryError" in kind and calls:
                edits = rewriting.retry_after(scope.text, [node], handler.body[0].lineno)
                first = scope.text.text.split("\n")[calls[0].lineno - 1].strip()
                yield from (
                    replace(one, line=calls[0].lineno, before=first) for one in told(scope, "retry", edits, kind)
                )


def _attempts(scope: Scope) -> list[ast.Try]:
    return [one for one in walk(scope.body) if isinstance(one, ast.Try)]


def _frames(scope: Scope) -> Iterator[Foreseen]:
    """`df = pd.concat([df, part])` in a loop: all rows are copied with each step."""
    edits = rewriting.concat_once(scope.text, scope.body)
    if len(edits) > 2:
        start, end, new = edits[1]  # the statement that becomes `parts.append(part)`
        line, old = scope.text.text[:start].count("\n") + 1, scope.text.text[start:end]
        yield Foreseen(kind="concat", line=line, before=old, after=new, cell=scope.cell, name=edits[2][2].strip())
