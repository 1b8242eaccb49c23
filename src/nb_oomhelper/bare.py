"""What the interpreter itself keeps of an object: read past any code of the object's class, or of its metaclass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GetSetDescriptorType, ModuleType

class_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
class_dict: Callable[[type], Mapping[str, object]] = type.__dict__["__dict__"].__get__
class_name: Callable[[type], str] = type.__dict__["__name__"].__get__
exception_args: Callable[[BaseException], tuple[object, ...]] = BaseException.__dict__["args"].__get__
module_dict: Callable[[ModuleType], dict[str, object]] = type.__getattribute__(ModuleType, "__dict__")[
    "__dict__"
].__get__


def instance_dict(thing: object) -> dict[object, object]:
    """An object's own attributes; empty where it has none."""
    for kind in class_mro(type(thing)):
        getter = class_dict(kind).get("__dict__")
        if type(getter) is GetSetDescriptorType:
            names = getter.__get__(thing)
            return names if type(names) is dict else {}
    return {}


def instances(objects: Iterable[object], base: type) -> Iterator[tuple[int, object]]:
    """Those of a class and of its subclasses, each with its index, told by their classes alone."""
    known: dict[int, tuple[type, bool]] = {}  # by id, since a metaclass may define __hash__; keeps the type alive
    for index, thing in enumerate(objects):
        kind = type(thing)
        entry = known.get(id(kind))
        if entry is None:
            entry = known[id(kind)] = (kind, type.__subclasscheck__(base, kind))
        if entry[1]:
            yield index, thing
