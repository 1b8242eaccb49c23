"""What a cell does that cannot be done twice: it asks for an input, uses up an iterator, takes from a container.

Seen in the syntax tree alone, so that it is said before the cell runs again; what functions do is not looked into.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from nb_oomhelper.source.tree import last_name, pairs, root_name, walk

RepeatKind = Literal["input", "file", "consumed", "taken", "added", "changed"]
_TAKES = frozenset({"pop", "popleft", "popitem", "get_nowait"})
_ADDS = frozenset({"append", "appendleft", "extend", "insert"})
_APPENDING = ("a", "ab", "at", "a+", "ab+", "a+b")


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something that is not the same a second time.

    Attributes:
        kind: What is done.
        name: The user's name that it is done to, or "".
    """

    kind: RepeatKind
    name: str = ""


def find_repeats(
    tree: ast.Module, line: int | None, needs: Collection[str], iterators: Collection[str]
) -> tuple[Repeat, ...]:
    """Find what a failed cell has done, or begun, that running it again does once more.

    Args:
        tree: The cell.
        line: Where it failed; None takes all of it.
        needs: Variables of the notebook that it reads as they were before it.
        iterators: Those of them that are iterators.

    Returns:
        Each once, in their order in the cell.
    """
    found: dict[Repeat, None] = {}
    for statement in tree.body:
        if line is not None and statement.lineno > line:
            break
        ended = line is None or (statement.end_lineno or statement.lineno) < line or hasattr(statement, "body")
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for node in walk([statement]):
                found.update(dict.fromkeys(_of(node, needs, iterators, ended=ended)))
    return tuple(found)


def _of(node: ast.AST, needs: Collection[str], iterators: Collection[str], *, ended: bool) -> Iterator[Repeat]:
    if isinstance(node, ast.Name) and node.id in iterators and node.id in needs:
        yield Repeat("consumed", node.id)
    elif isinstance(node, ast.Call):
        yield from _of_call(node, needs)
    elif isinstance(node, ast.Delete):
        yield from (Repeat("taken", name) for one in node.targets if (name := _part_of(one)) in needs)
    elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and ended:
        yield from _changed(node, needs)


def _of_call(call: ast.Call, needs: Collection[str]) -> Iterator[Repeat]:
    name = last_name(call.func)
    if name in ("input", "getpass"):
        yield Repeat("input")
    elif any(isinstance(one.value, ast.Constant) and one.value.value in _APPENDING for one in _modes(call, name)):
        yield Repeat("file")
    elif isinstance(call.func, ast.Attribute) and (owner := root_name(call.func.value)) in needs:
        if name in _TAKES:
            yield Repeat("taken", owner)
        elif name in _ADDS:
            yield Repeat("added", owner)


def _modes(call: ast.Call, name: str | None) -> Iterator[ast.keyword]:
    """What may be the mode in which a file is opened: of `open(path, "a")`, `path.open("a")`, `to_csv(…, mode="a")`."""
    yield from (one for one in call.keywords if one.arg == "mode")
    if name == "open":
        yield from (ast.keyword(value=one) for one in call.args[:2])


def _changed(node: ast.Assign | ast.AnnAssign | ast.AugAssign, needs: Collection[str]) -> Iterator[Repeat]:
    """`x = x / 255`, `df["a"] *= 2`: the second time it begins with what the first has made."""
    if isinstance(node, ast.AugAssign):
        if (name := root_name(node.target)) in needs:
            yield Repeat("changed", name)
        return
    for target, value in pairs(node):
        name = root_name(target)
        if name in needs and any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(value)):
            yield Repeat("changed", name)


def _part_of(node: ast.expr) -> str:
    return root_name(node) if isinstance(node, ast.Subscript) else ""
