"""Where in the notebook's objects a size stands, as the user would write it: variables, dicts, attributes, parameters.

Dicts, and what the interpreter keeps of an object, are read: no attribute of an object of the user's is asked for, and
nothing of the user's runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, SimpleNamespace
from typing import Any, TypeVar

from nb_oomhelper.introspection import class_dict, class_mro, instance_dict
from nb_oomhelper.remedies.cell_needs import is_main
from nb_oomhelper.source.sizes import Known

_DEPTH = 2  # items and attributes below a name
_FEW = 64  # of one object
_T = TypeVar("_T")
_LARGEST = 1 << 40
_WRAPPERS = 8  # around one function
_Read = Callable[[object], _T | None]


def whole_number(thing: object) -> int | None:
    """Give a whole number that a size, or a number of steps, can be; None for anything else."""
    return thing if type(thing) is int and 0 < thing < _LARGEST else None


def find_below(variables: Mapping[str, object], names: Iterable[str], read: _Read[_T]) -> dict[str, _T]:
    """Find what some names, and what is below them, stand for.

    Args:
        variables: The user's names and their objects.
        names: Where to look.
        read: Gives what is looked for of an object; None of any other.

    Returns:
        That by path: "bs", 'config["batch_size"]', "trainer.args.batch_size"; only what can be set.
    """
    found: dict[str, _T] = {}
    for name in sorted(set(names)):
        if name in variables:
            for path, thing in _below(name, variables[name], _DEPTH):
                value = read(thing)
                if value is not None:
                    found[path] = value
    return found


def _below(path: str, thing: object, depth: int) -> Iterator[tuple[str, object]]:
    yield path, thing
    if not depth or type(thing) is FunctionType:
        return
    if type(thing) is dict:
        parts = [(f'{path}["{key}"]', part) for key, part in _strings(thing) if key.isprintable() and _plain(key)]
    else:
        parts = [(f"{path}.{key}", part) for key, part in _strings(_attributes(thing)) if key.isidentifier()]
    for below, part in parts:
        yield from _below(below, part, depth - 1)


def _plain(key: str) -> bool:
    return '"' not in key and "\\" not in key


def _attributes(thing: object) -> Mapping[Any, object]:
    """An object's own attributes, and the plain values of its class where that is the notebook's."""
    if issubclass(type(thing), type):
        return class_dict(thing) if _is_own(thing) else {}  # type: ignore[arg-type]
    own = [kind for kind in class_mro(type(thing)) if _is_own(kind)]
    if not own and str(class_dict(type(thing)).get("__module__")).startswith("torch."):
        return {}  # a loader's own numbers cannot be set, and a layer's are no sizes of a step
    if any("__setattr__" in class_dict(kind) for kind in own):  # as of a frozen dataclass
        return {}
    values: dict[Any, object] = {}
    for kind in reversed(own):
        values |= {name: value for name, value in class_dict(kind).items() if type(value) is int}
    if type(thing) is SimpleNamespace:
        own_names: dict[str, object] = SimpleNamespace.__dict__["__dict__"].__get__(thing)
        return values | own_names
    return values | instance_dict(thing)


def _is_own(kind: object) -> bool:
    return is_main(class_dict(kind).get("__module__"))  # type: ignore[arg-type]


def _strings(things: Mapping[Any, object]) -> list[tuple[str, object]]:
    few = list(things.items()) if len(things) <= _FEW else []
    return [(key, part) for key, part in few if type(key) is str and not key.startswith("__")]


def read_parameters(variables: Mapping[str, object], names: Iterable[str], numbers: Iterable[str]) -> Known:
    """Read the parameters of the functions, classes and methods that a cell can call.

    Args:
        variables: The user's names and their objects.
        names: Those that the cell uses.
        numbers: Names that stand for whole numbers.
    """
    parameters: dict[str, tuple[str, ...]] = {}
    defaults: dict[str, Mapping[str, int]] = {}
    for name in sorted(set(names)):
        for path, function, bound in _functions(name, variables.get(name)):
            code = function.__code__
            places = code.co_varnames[: code.co_argcount]
            given = function.__defaults__ or ()
            told = dict(zip(places[len(places) - len(given) :], given, strict=True)) | (function.__kwdefaults__ or {})
            parameters[path] = places[bound:]
            defaults[path] = {key: value for key, value in told.items() if whole_number(value) is not None}
    return Known(numbers=frozenset(numbers), parameters=parameters, defaults=defaults)


def _functions(name: str, thing: object) -> Iterator[tuple[str, FunctionType, int]]:
    """A function, or the methods that can be called on a name; with how many arguments Python itself gives."""
    if type(thing) is FunctionType:
        yield name, _unwrapped(thing), 0
        return
    is_class = issubclass(type(thing), type)
    for kind in reversed(class_mro(thing if is_class else type(thing))):  # type: ignore[arg-type]
        if not _is_own(kind):
            continue
        for key, value in list(class_dict(kind).items()):
            if type(value) is FunctionType:
                if not is_class:
                    yield (name if key == "__call__" else f"{name}.{key}"), _unwrapped(value), 1
                elif key == "__init__":
                    yield name, value, 1
            elif type(value) is staticmethod and type(value.__func__) is FunctionType:
                yield f"{name}.{key}", value.__func__, 0


def _unwrapped(function: FunctionType) -> FunctionType:
    """What a decorator such as `torch.no_grad()` has wrapped: its parameters are those that can be given."""
    for _ in range(_WRAPPERS):
        inner = function.__dict__.get("__wrapped__")
        if type(inner) is not FunctionType:
            break
        function = inner
    return function
