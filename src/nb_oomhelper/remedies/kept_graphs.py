"""What a step of training would keep with its graph, as the text shows it before it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nb_oomhelper.records.foreseen import Foreseen
from nb_oomhelper.remedies.scopes import Scope, told
from nb_oomhelper.remedies.written import Written
from nb_oomhelper.source import cures
from nb_oomhelper.source.bindings import goes_back_through, read_from_outside
from nb_oomhelper.source.collecting import binds, find_appends, find_kept, root_of
from nb_oomhelper.source.graphs import element_of, loop_around
from nb_oomhelper.source.sums import find_additions
from nb_oomhelper.source.tree import is_path, last_name, pairs, walk

_ADDS = frozenset({"append", "appendleft", "add", "insert", "extend"})
_GRADIENTS = frozenset({"grad", "jacobian", "hessian", "vjp", "jvp", "create_graph"})


def find_kept_graphs(scope: Scope, scopes: list[Scope], written: Written) -> Iterator[Foreseen]:
    """Find what keeps the graph of each step.

    Args:
        scope: The code.
        scopes: All of it: some may read what is kept.
        written: What the notebook's code says.
    """
    yield from _appended(scope, scopes)
    yield from _added(scope, scopes)
    yield from _retained(scope, written)


def _goes_backward_around(scope: Scope, scopes: list[Scope], node: ast.AST, keeper: str) -> bool:
    """Whether what is kept is of a step that goes backward itself, so that nobody can go through its graph again."""
    loop = loop_around(scope.graphs, node)
    if loop is None and (scope.function is None or binds(scope.body, root_of(keeper))):
        return False
    step = [loop] if loop is not None else scope.body
    if not scope.graphs.goes_backward(step) or goes_back_through(scope.body, keeper):
        return False
    local = keeper.isidentifier() and scope.function is not None and binds(scope.body, keeper)
    return local or not any(goes_back_through(one.body, keeper) for one in scopes)


def _appended(scope: Scope, scopes: list[Scope]) -> Iterator[Foreseen]:
    """`losses.append(loss)` in a loop that trains."""
    others = [one.body for one in scopes if one is not scope]
    for keeper in keepers_in(scope.body):
        local = keeper.isidentifier() and scope.function is not None and binds(scope.body, keeper)
        for put in find_kept(scope.body, keeper):
            element = element_of(scope.graphs, put)
            if element.has("graph", "number") and _goes_backward_around(scope, scopes, put, keeper):
                span = scope.text.span(put)
                edits = find_appends(scope.text, scope.body, keeper, element, [] if local else others)
                inside = [one for one in edits if span[0] <= one[0] and one[1] <= span[1]]
                yield from told(scope, "append", inside, keeper)


def keepers_in(body: list[ast.stmt]) -> list[str]:
    """Give what something is put into, one by one, by path."""
    found: list[ast.expr] = []
    for node in walk(body):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ADDS:
            found.append(node.func.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.value, (ast.List, ast.Tuple)):
            found.append(node.target)
        found += [to.value for to, _ in pairs(node) if isinstance(to, ast.Subscript) and _varies(to.slice)]
    return list(dict.fromkeys(path for one in found if (path := _path(one))))


def _varies(key: ast.expr) -> bool:
    return not isinstance(key, (ast.Constant, ast.UnaryOp, ast.Slice, ast.Tuple))


def _path(node: ast.expr) -> str:
    """A path as of `find_kept`: of `history[key]` and `history.setdefault(key, [])` what has the keys."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault":
        return _path(node.func.value)
    if isinstance(node, ast.Subscript) and not isinstance(getattr(node.slice, "value", None), str):
        return _path(node.value)
    plain = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and is_path(node)
    return ast.unparse(node) if plain else ""


def _added(scope: Scope, scopes: list[Scope]) -> Iterator[Foreseen]:
    """`total += loss` in a loop that trains."""
    others = [one.body for one in scopes if one is not scope]
    for node in walk(scope.body):
        to: ast.expr | None = None
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            to, added = node.target, node.value
        for target, value in pairs(node):
            if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and _path(target):
                sides = [one for one in (value.left, value.right) if ast.unparse(one) != ast.unparse(target)]
                to, added = (target, sides[0]) if len(sides) == 1 else (to, value)
        if to is None or scope.graphs.kind(added) != "number" or not isinstance(node, ast.stmt):
            continue
        keeper, span = ast.unparse(to), scope.text.span(node)
        if _goes_backward_around(scope, scopes, node, keeper):
            edits = find_additions(scope.text, scope.body, keeper, others)
            inside = [one for one in edits if span[0] <= one[0] and one[1] <= span[1]]
            yield from told(scope, "add", inside, keeper)


def _retained(scope: Scope, written: Written) -> Iterator[Foreseen]:
    """`loss.backward(retain_graph=True)` where each step makes its graph anew."""
    words = {word for node in scope.body for word in cures.words_in(node)}
    words |= {one.arg or "" for one in walk(scope.body) if isinstance(one, ast.keyword)}
    if words & _GRADIENTS:
        return
    graphs = {path for path, kept in written.kept.items() if kept.element and kept.element.has("graph", "number")}
    for node in walk(scope.body):
        call = node if isinstance(node, ast.Call) and last_name(node.func) == "backward" else None
        owner = call.func.value if call is not None and isinstance(call.func, ast.Attribute) else None
        loop = loop_around(scope.graphs, node)
        if isinstance(owner, ast.Name) and loop is not None:
            outside = read_from_outside(loop, owner.id)
            if outside is not None and all(_is_plain(scope, one, graphs, written) for one in outside):
                yield from told(scope, "retain_graph", cures.backward_once(scope.text, scope.body, graphs))


def _is_plain(scope: Scope, name: str, graphs: set[str], written: Written) -> bool:
    """Whether a name surely stands for nothing with a graph."""
    if scope.graphs.binds(name):  # by now it is something else
        return scope.graphs.is_plain(name)
    return name in written.names and name not in graphs
