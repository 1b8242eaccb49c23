"""What the names of some code are bound to, and where the code goes backward from them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nb_oomhelper.source.collecting import is_keeper, root_of
from nb_oomhelper.source.flows import reached_from
from nb_oomhelper.source.tree import names_bound, pairs, walk

LIBRARIES = frozenset({"torch", "F", "nn", "functional"})
BACKWARD = frozenset({"backward", "manual_backward"})
_Place = tuple[int, int]


def bindings(nodes: Sequence[ast.AST]) -> dict[str, list[tuple[_Place, ast.expr | None]]]:
    """What each name is bound to, in the order of the text; None where that is no plain expression."""
    found: dict[str, list[tuple[_Place, ast.expr | None]]] = {}
    known = set[int]()
    for node in nodes:
        for target, value in pairs(node):
            if isinstance(target, ast.Name) and isinstance(node, (ast.Assign, ast.AnnAssign)):
                end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
                known.add(id(target))
                found.setdefault(target.id, []).append((end, value))
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in known:
            found.setdefault(node.id, []).append(((node.lineno, node.col_offset), None))
    for places in found.values():
        places.sort(key=lambda one: one[0])
    return found


def backward_calls(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """Give the calls that go backward: `loss.backward()`, `accelerator.backward(loss)`."""
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BACKWARD:
            yield node


def sent_back(nodes: Sequence[ast.AST], bound: Mapping[str, object]) -> dict[str, list[_Place]]:
    """Where each name is a number that the code goes backward from: `loss.backward()`, `scaler.scale(loss).backward()`,
    `accelerator.backward(loss)`."""
    found: dict[str, list[_Place]] = {}
    for call in backward_calls(nodes):
        owner = call.func.value  # type: ignore[attr-defined]
        if call.args and isinstance(owner, ast.Name) and owner.id in bound:
            continue  # `out.backward(gradient)`, which is no number
        for name in _numbers(call.args[0] if call.args else owner):
            found.setdefault(name, []).append((call.lineno, call.col_offset))
    return found


def _numbers(node: ast.expr) -> Iterator[str]:
    """The names that are single numbers where an expression is one."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Call) and node.args:
        yield from _numbers(node.args[0])
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        yield from _numbers(node.left)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield from _numbers(node.left)
        yield from _numbers(node.right)


def goes_back_through(body: Sequence[ast.stmt], keeper: str) -> bool:
    """Tell whether code goes backward through what a name collects or adds up.

    Args:
        body: The code.
        keeper: As of `find_appends`: "losses", "trainer.outputs".
    """
    spread = {root_of(keeper)} if keeper.isidentifier() else set()
    for node in walk(list(body)):
        for target, value in pairs(node):
            if isinstance(target, ast.Name) and any(is_keeper(one, keeper) for one in ast.walk(value)):
                spread.add(target.id)
    spread = reached_from(list(body), spread)
    for call in backward_calls(walk(list(body))):
        read = [part for one in (call.func, *call.args) for part in ast.walk(one)]
        if any(is_keeper(one, keeper) or (isinstance(one, ast.Name) and one.id in spread) for one in read):
            return True
    return False


def read_from_outside(loop: ast.AST, name: str) -> set[str] | None:
    """Give the names from outside of a loop that a name in it is computed from, without functions that are called.

    Args:
        loop: One of the statements' loops.
        name: The name.

    Returns:
        None where the loop does not bind the name.
    """
    inside = names_bound([loop])
    todo, met, found = [name], set[str](), set[str]()
    while todo:
        one = todo.pop()
        met.add(one)
        read = {part for value in _values_of(loop, one) for part in _computed_from(value)}
        found |= read - inside
        todo += read.intersection(inside) - met
    return found if name in inside else None


def _values_of(code: ast.AST, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(code):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Name) and one.id == name for to in targets for one in ast.walk(to)):
                yield node.value


def _computed_from(value: ast.expr) -> set[str]:
    """The names in an expression, but for functions that are called and libraries."""
    called = {id(one.func) for one in ast.walk(value) if isinstance(one, ast.Call)}
    names = {one.id for one in ast.walk(value) if isinstance(one, ast.Name) and id(one) not in called}
    return names - LIBRARIES
