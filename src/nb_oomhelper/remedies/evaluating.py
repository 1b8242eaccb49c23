"""Code that evaluates a model and makes a graph that nobody goes back through, as the text shows it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace

from nb_oomhelper.records.foreseen import Foreseen
from nb_oomhelper.remedies.code_mistakes import leads_to_training
from nb_oomhelper.remedies.model_weights import is_model
from nb_oomhelper.remedies.scopes import Scope, learns, told
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures
from nb_oomhelper.source.evaluations import until_training
from nb_oomhelper.source.graphs import Graphs, element_of
from nb_oomhelper.source.tree import blocks_of, is_path, last_name, walk


def find_graphs_not_needed(
    scope: Scope, scopes: list[Scope], written: Written, known: Mapping[str, object]
) -> Iterator[Foreseen]:
    """Find code that has called `model.eval()`, and then the model, and trains with nothing of that.

    Args:
        scope: The code.
        scopes: All of it.
        written: What the notebook's code says.
        known: The user's objects that it uses, by name.
    """
    if _has_learning_input(known) or any(
        "requires_grad" in word for node in scope.body for word in cures.words_in(node)
    ):
        return
    for block in blocks_of(scope.body):
        for at, node in enumerate(block):
            path = _evaluated(node)
            thing = known.get(path)
            if not path or (is_model(thing) and not learns(thing)):
                continue
            rest = until_training(block[at + 1 :], path)
            called = [one for one in rest if _calls(scope.graphs, one, path)]
            if not called or any(leads_to_training(written, one) for one in rest):
                continue
            yield from _switched_off(scope, scopes, called[0], path)
            return


def _has_learning_input(known: Mapping[str, object]) -> bool:
    """Whether gradients of what is no weight are asked for: where a model looks, adversarial examples."""
    base = getattr(getattr(sys.modules.get("torch"), "_C", None), "TensorBase", None)
    return base is not None and any(
        issubclass(type(thing), base) and base.requires_grad.__get__(thing) for thing in known.values()
    )


def _evaluated(node: ast.stmt) -> str:
    """The path of a model that a statement sets to evaluate: `model.eval()`, `net = load().eval()`; or ""."""
    value = getattr(node, "value", None) if isinstance(node, (ast.Expr, ast.Assign)) else None
    call = value if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else None
    if call is None or call.args or call.keywords or call.func.attr != "eval":  # type: ignore[attr-defined]
        return ""
    to = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else call.func.value  # type: ignore[attr-defined]
    return ast.unparse(to) if isinstance(to, (ast.Name, ast.Attribute)) and is_path(to) else ""


def _calls(graphs: Graphs, node: ast.stmt, path: str) -> ast.Call | None:
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and ast.unparse(one.func) == path]
    return next((one for one in calls if not graphs.is_off(one)), None)


def _switched_off(scope: Scope, scopes: list[Scope], node: ast.stmt, path: str) -> Iterator[Foreseen]:
    function, call = scope.function, _calls(scope.graphs, node, path)
    if function is None and call is not None:
        lines = scope.text.text.split("\n")
        yield Foreseen(
            kind="around", line=call.lineno, before=lines[call.lineno - 1].strip(), after="with torch.no_grad():"
        )
        return
    if function is None or _gives_graph(scope, path) or any(_calls_off(one, function.name) for one in scopes):
        return
    for one in told(scope, "no_grad", cures.without_grad(scope.text, function), function.name):
        yield replace(one, before=one.before or function.name)


def _gives_graph(scope: Scope, path: str) -> bool:
    """Whether what a function gives back may be trained with."""
    graphs = Graphs(scope.body, {*scope.graphs.models, path})
    given = [
        one.value for one in walk(scope.body) if isinstance(one, (ast.Return, ast.Yield)) and one.value is not None
    ]
    return any(element_of(graphs, one).has("graph", "number") for one in given)


def _calls_off(scope: Scope, name: str) -> bool:
    calls = [one for one in walk(scope.body) if isinstance(one, ast.Call) and last_name(one.func) == name]
    decorated = scope.function is not None and scope.graphs.is_off(scope.function)
    return any(decorated or scope.graphs.is_off(one) for one in calls)
