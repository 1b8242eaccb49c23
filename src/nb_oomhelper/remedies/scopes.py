"""The pieces of code that a cell is about to run, each with what has a graph in it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nb_oomhelper.introspection import class_mro, class_name, instance_dict
from nb_oomhelper.records.foreseen import Foreseen, ForeseenKind
from nb_oomhelper.remedies.model_weights import is_model
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.graphs import GraphKind, Graphs
from nb_oomhelper.source.source_text import Edit, SourceText
from nb_oomhelper.source.text_edits import write_edits
from nb_oomhelper.source.tree import last_name, pairs, walk

_LAYERS = 2_000  # of one model, that are looked at


@dataclass(frozen=True, slots=True)
class Scope:
    """The statements of one function, or those of the cell that stand outside of functions."""

    text: SourceText
    body: list[ast.stmt]
    graphs: Graphs
    function: Function | None = None
    cell: int | None = None


def told(scope: Scope, kind: ForeseenKind, edits: list[Edit], name: str = "") -> Iterator[Foreseen]:
    """Give a mistake with the line that it is in, as it is and as it should be.

    Args:
        scope: The code in which it is.
        kind: Which.
        edits: What mends it; of none there is nothing to give.
        name: As of `Foreseen`.
    """
    changed = write_edits(scope.text, edits)
    if changed is not None:
        before, after = changed.before.split("\n")[0], changed.after.split("\n")[0]
        yield Foreseen(kind=kind, line=changed.line, before=before, after=after, cell=scope.cell, name=name)


def read_scopes(written: Written, known: Mapping[str, object]) -> list[Scope]:
    """Give the cell's own statements, each function in it, and the functions of other cells that it leads to.

    Args:
        written: What the notebook's code says.
        known: The user's objects that it uses, by name.
    """
    text = written.read(written.cell.source)
    if text is None:
        return []
    parts: list[tuple[SourceText, list[ast.stmt], Function | None, int | None]] = []
    plain = [one for one in text.tree.body if not isinstance(one, Function | ast.ClassDef)]
    parts.append((text, plain, None, None))
    parts += [(text, one.body, one, None) for one in _functions(text.tree)]
    own = {one.name for one in text.tree.body if isinstance(one, Function | ast.ClassDef)}
    for one in written.definitions:
        function = written.function(one)
        if one.called and not own.intersection(one.names) and not written.is_cell(one.source) and function is not None:
            parts.append((function[0], function[1].body, function[1], one.cell))
    models = {name for name, thing in known.items() if is_model(thing) and learns(thing)}
    losses = {name for name, thing in known.items() if is_model(thing) and _gives_number(thing)}
    models |= _made_of(text.tree, _model_classes(text.tree))
    made: dict[str, GraphKind] = {}
    for _, body, node, _ in parts:
        kind = None if node is None else _given_back(node, Graphs(body, models, losses))
        if node is not None and kind is not None:
            made[node.name] = kind
    return [Scope(text, body, Graphs(body, models, losses, made), node, cell) for text, body, node, cell in parts]


def _functions(tree: ast.Module) -> Iterator[Function]:
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from (one for one in inner if isinstance(one, Function))


def _given_back(node: Function, graphs: Graphs) -> GraphKind | None:
    """What a function gives that has gone backward itself: with a graph, or None."""
    if node.decorator_list or not graphs.goes_backward(node.body):
        return None
    given = [one.value for one in walk(node.body) if isinstance(one, (ast.Return, ast.Yield))]
    kinds = {graphs.kind(one) if one is not None else None for one in given}
    return kinds.pop() if len(kinds) == 1 else None


def _model_classes(tree: ast.Module) -> set[str]:
    """The classes in a cell that are models: `class Net(nn.Module)`."""
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    return {one.name for one in classes if any("Module" in (last_name(base) or "") for base in one.bases)}


def _made_of(tree: ast.Module, classes: set[str]) -> set[str]:
    """The names that stand for objects of some classes: `net = Net().to(device)`."""
    made = [(target, value) for node in ast.walk(tree) for target, value in pairs(node)]
    called = ((to, {last_name(one.func) for one in ast.walk(of) if isinstance(one, ast.Call)}) for to, of in made)
    return {target.id for target, names in called if isinstance(target, ast.Name) and names & classes}


def learns(model: object) -> bool:
    """Tell whether a model has a weight that gets gradients.

    Args:
        model: A model of PyTorch's.
    """
    base = sys.modules["torch"]._C.TensorBase
    todo, met = [model], set[int]()
    while todo and len(met) < _LAYERS:
        names = instance_dict(todo.pop())
        met.add(id(names))
        own, below = names.get("_parameters"), names.get("_modules")
        for weight in list(own.values()) if type(own) is dict else ():
            if isinstance(weight, base) and base.requires_grad.__get__(weight):
                return True
        todo += [one for one in below.values() if one is not None] if type(below) is dict else []
    return False


def _gives_number(model: object) -> bool:
    kinds = [class_name(kind) for kind in class_mro(type(model))]
    return kinds[0].endswith("Loss") and instance_dict(model).get("reduction") in ("mean", "sum")
