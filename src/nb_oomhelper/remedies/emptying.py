"""What can be emptied where it is, below a name of the user's, by a call that runs no code of the user's."""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from types import FunctionType, GeneratorType
from typing import Any

from nb_oomhelper.introspection import class_dict, class_mro, instance_dict
from nb_oomhelper.remedies.cell_needs import is_main

_CONTAINERS = (list, dict, set, deque, defaultdict, OrderedDict)
_CACHE = type(functools.lru_cache(lambda: None))
_DEPTH = 2  # attributes below a name
_FEW = 64  # attributes of one object


def find_clearable(variables: Mapping[str, object]) -> dict[str, str]:
    """Find what can be emptied.

    Args:
        variables: The user's names and their objects.

    Returns:
        Path, as the user would write it, and the statement: "trainer.outputs" -> "trainer.outputs.clear()", "features"
        -> "features.cache_clear()", "batches" -> "batches.close()" of a suspended generator.
    """
    return {path: f"{path}.{call}()" for name, thing in variables.items() for path, call in _below(name, thing, _DEPTH)}


def _below(path: str, thing: object, depth: int) -> Iterator[tuple[str, str]]:
    kind = type(thing)
    if any(kind is one for one in _CONTAINERS):
        yield path, "clear"
    elif kind is _CACHE:
        yield path, "cache_clear"
    elif kind is GeneratorType:
        yield path, "close"
    elif depth and kind is not FunctionType and not issubclass(kind, type):
        for one in class_mro(kind):  # a cache around a method
            if is_main(class_dict(one).get("__module__")):
                yield from (
                    (f"{path}.{name}", "cache_clear")
                    for name, made in _strings(class_dict(one))
                    if type(made) is _CACHE
                )
        for name, part in _strings(instance_dict(thing)):
            yield from _below(f"{path}.{name}", part, depth - 1)


def _strings(names: Mapping[Any, object]) -> list[tuple[str, object]]:
    if len(names) > _FEW:
        return []
    return [(name, part) for name, part in list(names.items()) if type(name) is str and name.isidentifier()]
