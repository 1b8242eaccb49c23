"""Whether each step of a loop makes an autograd graph of its own, or goes on from one that was there."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from nb_oomhelper.source.tree import last_name, pairs, walk

_BLOCKS = ("body", "orelse", "finalbody", "handlers")
_CUTS = frozenset({"detach", "detach_", "item", "tolist", "numpy", "data"})
_OF_NUMBERS = frozenset({"len", "float", "int", "round", "min", "max", "abs", "range", "time", "perf_counter", "next"})


def shares_graph(step: list[ast.stmt], graphs: Collection[str], but: str = "") -> bool:
    """Tell whether a step goes on from a graph that it has not made: the last step's, or one from before the loop.

    Args:
        step: The statements of a step, or the loop that makes them.
        graphs: What is known to have a graph now, by path.
        but: A path that does not count.
    """
    early, stored = _read_early(step)
    carried = {path for path in early & stored if path in graphs or _is_computed(step, path)}
    cut = {ast.unparse(target) for target, value in _bound(step) if _is_cut(value)}
    return bool(carried - cut - {but}) or bool((early - stored - {but}).intersection(graphs))


def _read_early(step: list[ast.stmt]) -> tuple[set[str], set[str]]:
    """What is read before the step has bound it, and all that it binds, by path."""
    early: set[str] = set()
    stored: set[str] = set()
    for node in _in_order(step):
        own = list(_own_nodes(node))
        early |= {ast.unparse(one) for one in own if isinstance(one.ctx, ast.Load)} - stored  # type: ignore[attr-defined]
        stored |= {ast.unparse(one) for one in own if isinstance(one.ctx, ast.Store)}  # type: ignore[attr-defined]
    return early, stored


def _in_order(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for node in body:
        yield node
        for name in _BLOCKS:
            yield from _in_order(getattr(node, name, None) or [])


def _own_nodes(node: ast.AST) -> Iterator[ast.expr]:
    """The names and attributes of a statement, without those of the statements within it."""
    todo = [node]
    while todo:
        one = todo.pop()
        if isinstance(one, (ast.Name, ast.Attribute)):
            yield one
        inner = ast.iter_child_nodes(one)
        todo += [part for part in inner if not isinstance(part, (ast.stmt, ast.ExceptHandler))]


def _bound(step: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is bound to what; to each of several names all that is unpacked."""
    for node in walk(step):
        found = list(pairs(node))
        if not found and isinstance(node, ast.Assign):
            found = [(target, node.value) for target in node.targets]
        for target, value in found:
            parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
            yield from ((one, value) for one in parts)


def _is_computed(step: list[ast.stmt], path: str) -> bool:
    """Whether something may be a tensor with a graph: what a call gives that makes no plain number."""
    values = [value for target, value in _bound(step) if ast.unparse(target) == path and not _is_cut(value)]
    calls = [one for value in values for one in ast.walk(value) if isinstance(one, ast.Call)]
    return any(last_name(one.func) not in _OF_NUMBERS for one in calls)


def _is_cut(value: ast.expr) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr in _CUTS for one in ast.walk(value))
