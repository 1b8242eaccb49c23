"""Whether what is collected is given on: joined, added up or returned, so that somebody may go backward through it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from nb_oomhelper.source.collecting import find_kept, is_keeper
from nb_oomhelper.source.cures import goes_back
from nb_oomhelper.source.flows import reached_from
from nb_oomhelper.source.kept_models import loop_around
from nb_oomhelper.source.meeting import JOINS, READS
from nb_oomhelper.source.tree import (
    arguments,
    last_name,
    names_in,
    nodes_above,
    parents_of,
    root_name,
    statement_around,
    walk,
)


def is_given_on(body: list[ast.stmt], keeper: str, *, at_top: bool = False) -> bool:
    """Tell whether code joins or adds up what it collects, or gives it back: where one trains, it may go backward.

    Where each step of the loop that collects goes backward by itself, nothing of the step can be gone through again.

    Args:
        body: The code.
        keeper: A path of what collects.
        at_top: The code is a cell's. Where that goes nowhere backward itself, and calls nothing with what it joins,
            nobody goes backward.
    """
    parents = parents_of(walk(body))
    loops = [loop_around(one, parents) for one in find_kept(body, keeper)]
    known = [one for one in loops if one is not None]
    if known and all(_goes_backward(one) for one in known):
        return False
    reads = [one for one in walk(body) if isinstance(one, ast.Return) or _joins(one)]
    spread = reached_from(body, [keeper])  # `returns.append(reward + …)`
    found = [one for one in reads if names_in(one) & spread or any(is_keeper(part, keeper) for part in ast.walk(one))]
    return bool(found) and not (at_top and all(_is_only_put_by(body, one, parents) for one in found))


def _is_only_put_by(body: list[ast.stmt], read: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether what is joined is bound or put into something, and no call gets it then."""
    node = statement_around(read, parents) if isinstance(read, ast.expr) else None
    above = [one for one in nodes_above(read, parents) if isinstance(one, ast.Call)]
    if above or not isinstance(node, ast.Assign) or goes_back(ast.Module(body, [])):
        return False
    names = reached_from(body, [root_name(one) for one in node.targets])
    calls = [one for one in walk(body) if isinstance(one, ast.Call) and last_name(one.func) not in READS]
    return not any(names_in(part) & names for one in calls for part in arguments(one))


def _goes_backward(loop: ast.AST) -> bool:
    return any(isinstance(one, ast.Call) and last_name(one.func) == "backward" for one in ast.walk(loop))


def _joins(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) in (JOINS | {"sum", "mean"})
