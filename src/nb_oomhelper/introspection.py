"""What the interpreter itself keeps of an object: read past any code of the object's class, or of its metaclass."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, compress
from types import GetSetDescriptorType, ModuleType, TracebackType

class_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
class_dict: Callable[[type], Mapping[str, object]] = type.__dict__["__dict__"].__get__
class_name: Callable[[type], str] = type.__dict__["__name__"].__get__
exception_args: Callable[[BaseException], tuple[object, ...]] = BaseException.__dict__["args"].__get__
module_dict: Callable[[ModuleType], dict[str, object]] = type.__getattribute__(ModuleType, "__dict__")[
    "__dict__"
].__get__
cause_of: Callable[[BaseException], BaseException | None] = BaseException.__dict__["__cause__"].__get__
context_of: Callable[[BaseException], BaseException | None] = BaseException.__dict__["__context__"].__get__
traceback_of: Callable[[BaseException], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__
members_of: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__
subclasses_of: Callable[[type], list[type]] = type.__subclasses__
_PER_BLOCK = 1.2e-7  # seconds that `living` takes, at most, for each block of memory that Python has given out


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


def living(kinds: Iterable[type], *, seconds: float | None = None) -> list[object] | None:
    """All objects of just these classes that the garbage collector knows, wherever they are kept.

    The collector also hands out tuples that another thread is still filling, and while anybody else refers to
    such a tuple Python cannot give it its last size: SystemError in that thread. So the list of all objects
    is taken, sifted by class and emptied within one call of C functions, between which no other thread gets
    its turn, nothing is allocated that could start a collection, and no code of the user's runs.

    Nobody else is to call `gc.get_objects` or `gc.get_referrers`. What `gc.get_referents` gives is sound: a
    tuple that is being filled is known to the C function that fills it and, of all objects, to the collector.

    Args:
        kinds: The classes; `with_subclasses` gives those below some.
        seconds: What it may take, for no other thread runs meanwhile; None is no bound.

    Returns:
        The objects; drop them soon. None where it would take too long, or where threads do not take turns
        (free-threaded Python).

    Raises:
        MemoryError: There is no room for a list of all objects.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    if seconds is not None and living_takes() > seconds:
        return None
    wanted = frozenset(map(id, kinds)).__contains__  # by id, since a metaclass may define `__eq__` and `__hash__`
    things: list[object] = []
    fill: Iterator[object] = filter(
        None, map(things.extend, map(gc.get_objects, (None,)))
    )  # yields nothing, as does `empty`
    picked = compress(iter(things), map(wanted, map(id, map(type, iter(things)))))
    empty: Iterator[object] = filter(None, map(list.clear, (things,)))
    try:
        return list(chain(fill, picked, empty))
    finally:
        things.clear()  # where memory ran out; it leads to itself


def living_takes() -> float:
    """Seconds that `living` takes: rather too many than too few, for nothing can stop it once it has begun.

    How many objects the collector knows, only a list of them would tell. Each has at least one block of memory.
    """
    return sys.getallocatedblocks() * _PER_BLOCK


def with_subclasses(kinds: Iterable[type]) -> list[type]:
    """Classes and all that are derived from them."""
    found = {id(kind): kind for kind in kinds}
    waiting = list(found.values())
    while waiting:
        below = [kind for kind in subclasses_of(waiting.pop()) if id(kind) not in found]
        found.update((id(kind), kind) for kind in below)
        waiting.extend(below)
    return list(found.values())
