"""Which names of the notebook the failed cell needs: itself, or through functions and classes that it names.

Functions are known by their class, and their code is read off them: nothing of the user's runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType

from nb_oomhelper.introspection import class_dict, class_mro
from nb_oomhelper.remedies.cell_source import globals_read

_DECORATORS = 8  # around one function


def overwritable(variables: Mapping[str, object]) -> frozenset[str]:
    """Give the variables that an import of their name would change."""
    return frozenset(name for name, thing in variables.items() if not _is_module(name, thing))


def _is_module(name: str, thing: object) -> bool:
    return type(thing) is ModuleType and sys.modules.get(name) is thing


def needed_among(names: Iterable[str], variables: Mapping[str, object]) -> frozenset[str]:
    """Give the variables among some names, and those that these read in their turn.

    Args:
        names: Any names, such as all that a cell reads.
        variables: The user's names and their objects.

    Returns:
        Names of variables.
    """
    todo, found = list(names), set()
    while todo:
        name = todo.pop()
        if name in variables and name not in found:
            found.add(name)
            todo.extend(read for code in _codes(variables[name]) for read in globals_read(code))
    return frozenset(found)


def codes_of(variables: Mapping[str, object]) -> Iterator[CodeType]:
    """Give the code of the notebook's functions, and of the methods of its classes and of its objects' classes.

    Args:
        variables: The user's names and their objects.
    """
    for thing in variables.values():
        yield from _codes(thing)


def names_of_functions(variables: Mapping[str, object]) -> dict[CodeType, list[str]]:
    """Give the names that stand for functions, by their code: several may have been made by one function.

    Args:
        variables: The user's names and their objects.
    """
    found: dict[CodeType, list[str]] = {}
    for name, thing in variables.items():
        if type(thing) is FunctionType:
            found.setdefault(thing.__code__, []).append(name)
    return found


def _codes(thing: object) -> Iterator[CodeType]:
    """The code of a function of the notebook, or of the methods of a class of it, also by an object of that class."""
    if type(thing) is FunctionType:
        yield from _code(thing)
        return
    for kind in class_mro(thing if issubclass(type(thing), type) else type(thing)):  # type: ignore[arg-type]
        if is_main(class_dict(kind).get("__module__")):
            for value in class_dict(kind).values():
                method = value.__func__ if type(value) is staticmethod or type(value) is classmethod else value
                yield from _code(method)


def _code(function: object) -> Iterator[CodeType]:
    """A function's code, and that of the one which a library's decorator has wrapped, if they are the notebook's."""
    for _ in range(_DECORATORS):
        if type(function) is FunctionType:
            if is_main(function.__globals__.get("__name__")):
                yield function.__code__
            function = function.__dict__.get("__wrapped__")


def is_main(module: object) -> bool:
    """Tell whether a `__module__` is the notebook's own."""
    return type(module) is str and module == "__main__"
