"""Where values go: through names, slices, loops and joins, up to what would have to lie on the same device."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator

from nb_oomhelper.source.tree import arguments, last_name, walk

_LEAVES = frozenset({"cpu", "numpy", "tolist", "item", "to", "cuda"})  # where it lies is said anew
_PUTS = frozenset({"append", "extend", "appendleft"})
_LOOKS = frozenset({"shape", "size", "dtype", "ndim", "numel", "dim", "nbytes", "device"})
_NUMBERS = frozenset({"len", "float", "int", "str", "range", "print", "repr", "type"})


def given_by(body: list[ast.stmt], function: str) -> set[str]:
    """Give the names that are bound to what a function returns.

    Args:
        body: The statements of whoever calls it.
        function: Its name.
    """
    return {
        one.id
        for node in walk(body)
        if isinstance(node, ast.Assign) and any(_calls(part, function) for part in ast.walk(node.value))
        for target in node.targets
        for one in ast.walk(target)
        if isinstance(one, ast.Name)
    }


def meets_model(body: list[ast.stmt], names: Collection[str], models: Collection[str], function: str = "") -> bool:
    """Tell whether something is put through a model as it lies.

    Args:
        body: The statements to look in.
        names: What stands for it.
        models: Names of models, or of attributes that are one.
        function: What gives it back, too: `model(function(x))`.
    """
    spread = reached_from(body, names)
    for node in walk(body):
        if isinstance(node, ast.Call) and _is_of(node.func, models):
            given = arguments(node)
            if any(_carries(one, spread, function) for one in given):
                return True
    return False


def calls_any(body: list[ast.stmt], names: Collection[str]) -> bool:
    """Tell whether something is called with data: a model that was kept.

    Args:
        body: The statements to look in.
        names: What stands for what keeps it.
    """
    spread = reached_from(body, names)
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and (one.args or one.keywords)]
    plain = [one.func.value if isinstance(one.func, ast.Attribute) else one.func for one in calls]
    put = {"append", "add", "insert", "extend", "setdefault", "get", "pop", "sort"}
    return any(
        _carries(what, spread) and last_name(one.func) not in put for one, what in zip(calls, plain, strict=True)
    )


def reached_from(body: list[ast.stmt], names: Iterable[str]) -> set[str]:
    """Give all names that values reach, as they lie.

    Args:
        body: The statements.
        names: Where they begin.
    """
    found = set(names)
    while True:
        more = {one for value, target in _bindings(body) if _carries(value, found) for one in _names(target)}
        if more <= found:
            return found
        found |= more


def numbers_in(body: list[ast.stmt]) -> set[str]:
    """Give the names that plainly stand for numbers of Python's.

    Args:
        body: The statements to look in.
    """
    made = [(node.value, target) for node in walk(body) if isinstance(node, ast.Assign) for target in node.targets]
    plain = {target.id for value, target in made if isinstance(target, ast.Name) and _is_number(value)}
    return plain - {target.id for value, target in made if isinstance(target, ast.Name) and not _is_number(value)}


def counters(body: list[ast.stmt]) -> set[str]:
    """Give the names that count: `i` in `for i in range(n)`, `for i, x in enumerate(xs)`.

    Args:
        body: The statements to look in.
    """
    found: set[str] = set()
    for node in walk(body):
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.iter, ast.Call):
            kind, target = last_name(node.iter.func), node.target
            first = target.elts[0] if isinstance(target, ast.Tuple) and kind == "enumerate" else target
            if kind in ("range", "trange", "enumerate") and isinstance(first, ast.Name):
                found.add(first.id)
    return found


def _is_number(value: ast.expr) -> bool:
    if isinstance(value, ast.BinOp):
        return _is_number(value.left) and _is_number(value.right)
    if isinstance(value, ast.Call):
        if isinstance(value.func, ast.Name) and value.func.id == "sum":
            return (
                len(value.args) == 1 and isinstance(value.args[0], ast.GeneratorExp) and _is_number(value.args[0].elt)
            )
        return last_name(value.func) in ("item", "len", "float", "int", "round")
    return isinstance(value, ast.Constant) and type(value.value) in (int, float)


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in walk(body):
        if isinstance(node, ast.Assign):
            yield from ((node.value, target) for target in node.targets)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PUTS:
            yield from ((one, node.func.value) for one in node.args)
        elif isinstance(node, (ast.For, ast.comprehension)):
            keyed = isinstance(node.iter, ast.Call) and last_name(node.iter.func) in ("items", "enumerate")
            pair = isinstance(node.target, ast.Tuple) and len(node.target.elts) == 2
            yield node.iter, node.target.elts[1] if keyed and pair else node.target  # type: ignore[attr-defined]


def _carries(node: ast.AST, names: Collection[str], function: str = "") -> bool:
    """Whether an expression gives something of these names, or of what a function returns, on where it lies."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute) and node.attr in _LOOKS:
        return False
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _LEAVES:
            return False
        if isinstance(node.func, ast.Name) and node.func.id in _NUMBERS:
            return False
        if function and last_name(node.func) == function:
            return True
    return any(_carries(one, names, function) for one in ast.iter_child_nodes(node))


def _is_of(function: ast.expr, models: Collection[str]) -> bool:
    """`model(…)`, `self.model(…)`, `model.encode(…)`."""
    if isinstance(function, ast.Attribute):
        return function.attr in models or last_name(function.value) in models
    return isinstance(function, ast.Name) and function.id in models


def _calls(node: ast.AST, function: str) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) == function


def _names(target: ast.expr) -> set[str]:
    return {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}
