"""Loops whose steps may get larger: each hands another number on, and what gets it makes so many of something."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator

from nb_oomhelper.source.cures import Function
from nb_oomhelper.source.tree import LOOPS, handed_over, is_at, last_name, names_in, walk

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NUMBERS = frozenset({"range", "trange", "arange", "linspace", "logspace", "geomspace"})
_AROUND = frozenset({"enumerate", "tqdm", "zip", "reversed", "list", "sorted"})
_NO_SIZES = frozenset({"seed", "manual_seed", "default_rng", "RandomState", "print", "str", "format"})


def may_grow(body: list[ast.stmt], line: int, numbers: Collection[str], find: Callable[[str], Function | None]) -> bool:
    """Tell whether a loop that was running gives a function another size in each step.

    Args:
        body: The statements of a cell, or of a function.
        line: The line that was running, from 1.
        numbers: Names of lists of numbers.
        find: Finds a function of the notebook by its name.
    """
    for node in walk(body):
        if isinstance(node, (*LOOPS, *_COMPREHENSIONS)) and is_at(node, line):
            steps = {
                name for target, of in _gone_through(node) if _are_numbers(of, numbers) for name in names_in(target)
            }
            calls = [one for one in ast.walk(node) if isinstance(one, ast.Call) and is_at(one, line)]
            if any(_gets_size(one, steps, find(last_name(one.func) or "")) for one in calls):
                return True
    return False


def collects(body: list[ast.stmt], line: int) -> bool:
    """Tell whether a loop that was running puts something into a list with each step, or is a comprehension.

    Args:
        body: The statements of a cell, or of a function.
        line: The line that was running, from 1.
    """
    running = [one for one in walk(body) if isinstance(one, (*LOOPS, *_COMPREHENSIONS[:3])) and is_at(one, line)]
    calls = [one for loop in running for one in ast.walk(loop) if isinstance(one, ast.Call)]
    puts = [one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr in ("append", "extend")]
    return bool(puts) or any(isinstance(one, _COMPREHENSIONS) for one in running)


def _gone_through(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, (ast.For, ast.AsyncFor)):
        yield node.target, node.iter
    for one in getattr(node, "generators", ()):
        yield one.target, one.iter


def _are_numbers(node: ast.expr, numbers: Collection[str]) -> bool:
    if isinstance(node, ast.Call):
        name = last_name(node.func)
        return name in _NUMBERS or (name in _AROUND and any(_are_numbers(one, numbers) for one in node.args))
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(isinstance(one, ast.Constant) and type(one.value) is int for one in node.elts)
    return isinstance(node, ast.Name) and node.id in numbers


def _gets_size(call: ast.Call, steps: Collection[str], function: Function | None) -> bool:
    """Whether a function gets one of some numbers, and makes so many of something."""
    if function is None:
        return False
    own = {name for name, value in handed_over(call, function) if name is not None and names_in(value) & {*steps}}
    return any(_is_size(one, own) for one in walk(function.body))


def _is_size(node: ast.AST, names: Collection[str]) -> bool:
    """`np.zeros((n, 3))`, and not `seed(n)`; `x[:n]`, and not `x[n]`."""
    if isinstance(node, ast.Slice):
        return bool(names_in(node) & {*names})
    if not isinstance(node, ast.Call) or last_name(node.func) in _NO_SIZES:
        return False
    return any(names_in(one) & {*names} for one in (*node.args, *(one.value for one in node.keywords)))
