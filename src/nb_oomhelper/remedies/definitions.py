"""The functions and methods of the notebook that a cell uses: where they were defined, and their source.

Read off code objects and the lines that IPython keeps for tracebacks; nothing of the user's runs.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType

from nb_oomhelper.introspection import class_name
from nb_oomhelper.source.call_sites import read_tree

_MOST = 40  # definitions that are read of one notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One function of the notebook.

    Attributes:
        name: Its name.
        owner: The class that it is a method of, or "".
        source: The source of the cell that defines it.
        cell: That cell's number, or None where it cannot be told.
        first, last: The lines of the statement at the cell's top level that it is in, from 1.
        instances: Variables that are objects of the class, if it is a method.
    """

    name: str
    owner: str
    source: str
    cell: int | None
    first: int
    last: int
    instances: tuple[str, ...] = ()

    def statement_of(self, changed: str) -> str:
        """That statement in the source of the same cell with lines changed or put in."""
        lines = changed.split("\n")
        more = len(lines) - len(self.source.split("\n"))
        return "\n".join(lines[self.first - 1 : self.last + more])


def read_definitions(
    codes: Iterable[CodeType], variables: Mapping[str, object], inputs: Sequence[str]
) -> tuple[Definition, ...]:
    """Find where functions were defined.

    Args:
        codes: Their code.
        variables: The user's names and their objects.
        inputs: The sources of the cells that ran, by number: IPython's `In`.
    """
    found: dict[tuple[str, int], Definition] = {}
    for code in codes:
        if len(found) == _MOST:
            break
        one = _definition(code, variables, inputs)
        if one is not None:
            found.setdefault((code.co_filename, code.co_firstlineno), one)
    return tuple(found.values())


def redefined(definition: Definition, changed: str) -> str:
    """Write a definition anew; objects of a class that is defined anew become objects of it.

    Args:
        definition: The definition.
        changed: The source of its cell with lines changed or put in.
    """
    lines = [definition.statement_of(changed)]
    lines += [f"{name}.__class__ = {definition.owner}" for name in definition.instances]
    return "\n".join(lines)


def _definition(code: CodeType, variables: Mapping[str, object], inputs: Sequence[str]) -> Definition | None:
    source = _source(code.co_filename)
    tree = None if source is None else read_tree(source)
    if source is None or tree is None:
        return None
    for node in tree.body:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        if first <= code.co_firstlineno <= (node.end_lineno or node.lineno):
            owner = node.name if isinstance(node, ast.ClassDef) else ""
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                return None
            return Definition(
                name=code.co_name,
                owner=owner,
                source=source,
                cell=_number(source, inputs),
                first=first,
                last=node.end_lineno or node.lineno,
                instances=_instances(owner, variables) if owner else (),
            )
    return None


def _source(file: str) -> str | None:
    """A cell's source as IPython keeps it for tracebacks; the file system is not asked."""
    entry = linecache.cache.get(file)
    return "".join(entry[2]).rstrip("\n") if entry is not None and len(entry) == 4 else None


def _number(source: str, inputs: Sequence[str]) -> int | None:
    told = source.strip()
    numbers = (number for number in range(len(inputs) - 1, 0, -1) if inputs[number].strip() == told)
    return next(numbers, None)


def _instances(owner: str, variables: Mapping[str, object]) -> tuple[str, ...]:
    """Variables that are objects of the class that has this name now."""
    kind = variables.get(owner)
    if not issubclass(type(kind), type):
        return ()
    same = (name for name, thing in variables.items() if type(thing) is kind and class_name(type(thing)) == owner)
    return tuple(sorted(same))
