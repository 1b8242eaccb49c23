"""What the interpreter itself keeps of an object: read past any code of the object's class, or of its metaclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import GetSetDescriptorType, ModuleType

class_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
class_dict: Callable[[type], Mapping[str, object]] = type.__dict__["__dict__"].__get__
class_name: Callable[[type], str] = type.__dict__["__name__"].__get__
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
