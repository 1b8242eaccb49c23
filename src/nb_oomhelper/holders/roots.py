"""Where the search for holders begins: each name of the user's, and what lies right below it.

Only what the interpreter itself keeps is read: instance dicts, exact lists, tuples and dicts; no attribute
of an object of the user's is asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from types import FrameType, ModuleType
from typing import Any, Protocol

from nb_oomhelper.failure.places import at_top, is_users
from nb_oomhelper.holders.counting import Label
from nb_oomhelper.holders.scope import Scope
from nb_oomhelper.introspection import class_dict, class_name, instance_dict, module_dict
from nb_oomhelper.records.holdings import HolderKind

_log = logging.getLogger(__name__)
_OURS = frozenset({"IPython", "ipykernel", "nb_oomhelper"})
_FEW = 64  # parts of one object that are named, and characters of a key
_MANY = 10_000  # members of what is searched last


class Roles(Protocol):
    """What a framework knows of an object by its class alone."""

    def role(self, obj: object) -> str | None:
        """Tell what the object is to the framework; None where it is nothing to it."""


@dataclass(slots=True)
class Root:
    """A candidate holder.

    Attributes:
        kind: Which sort of holder.
        things: Its objects with what they are called.
        name: For a variable: its name, whatever its parts are called.
        thing: For what is one object: that object.
        role: What it is to a framework.
    """

    kind: HolderKind
    things: list[tuple[Label, object]]
    name: str = ""
    thing: object = None
    role: str | None = None


def module_roots(scope: Scope) -> Iterator[Root]:
    """Give the globals of other people's modules, and the attributes of their classes, one root a name."""
    barred = {id(thing) for thing in scope.barred}  # the user's own namespace is a module's, too
    made: list[object] = []  # kept, for the ids of what the roots have met must stay unique
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        if package in sys.stdlib_module_names or package in _OURS or not issubclass(type(module), ModuleType):
            continue
        names = module_dict(module)
        if id(names) in barred:
            continue
        for attribute, thing in list(names.items()):
            kept = thing
            if type(thing) is type:
                kept = list(class_dict(thing).values())
                made.append(kept)
            yield Root("module", [((f"module {name}.{attribute}", None, None), kept)])


def scope_roots(scope: Scope, tracers: Sequence[Roles], earlier: Sequence[tuple[FrameType, int]] = ()) -> list[Root]:
    """Give every name of the user's, in the order in which they are worth the time.

    The failed cells first, since it is what people cannot see; then models, tensors and the like; what may
    be millions of objects last, so that it takes nobody else's time.

    Args:
        scope: Where to look.
        tracers: The loaded frameworks.
        earlier: The frames of cells that failed before, with the lines that failed in them.

    Returns:
        One root a name, and one for all frames of the failed cell, and of those before.
    """
    kinds: tuple[HolderKind, ...] = ("failed_cell", "earlier_cell")
    failed = [
        Root(kind, local)
        for kind, frames in zip(kinds, (scope.frames, earlier), strict=True)
        if (local := [item for frame, line in frames for item in _locals(frame, line)])
    ]
    roots = [_result(number, thing, tracers) for number, thing in scope.results.items()]
    barred = {id(thing) for thing in scope.barred}
    roots += [_variable(name, thing, tracers, barred) for name, thing in scope.variables.items()]
    roots.sort(key=lambda root: (root.role is None, _is_crowd(root.thing)))
    return [*failed, *roots]


def _result(number: int, thing: object, tracers: Sequence[Roles]) -> Root:
    label = (f"Out[{number}]", None, None)
    return Root("output_history", [(label, thing)], thing=thing, role=role_of(thing, tracers))


def _variable(name: str, thing: object, tracers: Sequence[Roles], barred: set[int]) -> Root:
    if type(thing) is type and _is_mine(thing):
        kept = list(class_dict(thing).values())  # a class of the user's own, with what its attributes keep
        return Root("variable", [((name, None, None), kept)], name=name, thing=thing)
    role = role_of(thing, tracers)
    parts = _parts(name, thing) if role is None and id(thing) not in barred else []
    # the whole comes last: what its parts have not led to is its own
    return Root("variable", [*parts, ((name, None, None), thing)], name=name, thing=thing, role=role)


def _is_mine(kind: type) -> bool:
    module = class_dict(kind).get("__module__")
    return type(module) is str and module == "__main__"


def role_of(thing: object, tracers: Sequence[Roles]) -> str | None:
    """Ask what an object is to the first framework that knows it. One that fails knows nothing of it.

    Args:
        thing: The object.
        tracers: The frameworks, in the order in which they are asked.

    Returns:
        "model", "optimizer", "tensor", …; None where it is nothing to any of them.
    """
    for tracer in tracers:
        try:
            if role := tracer.role(thing):
                return role
        except Exception as error:  # no traceback is logged: it would keep the object
            _log.debug("a framework cannot tell what a %s is: %s", class_name(type(thing)), class_name(type(error)))
    return None


def _is_crowd(thing: object) -> bool:
    kind = type(thing)
    known = any(kind is one for one in (list, tuple, dict, set, frozenset))
    return known and len(thing) > _MANY  # type: ignore[arg-type]


def _parts(name: str, thing: object) -> list[tuple[Label, object]]:
    """What lies right below an object, as its user would write it: `losses[…]`, `cache['key']`, `trainer.optimizer`."""
    kind = type(thing)
    if kind is list or kind is tuple:
        return [((f"{name}[…]", None, None), thing)]
    if kind is dict:
        items: dict[object, object] = thing if len(thing) <= _FEW else {}  # type: ignore[arg-type, assignment]
        return [((f"{name}[{_key(key)}]", None, None), part) for key, part in list(items.items())]
    if issubclass(kind, (type, ModuleType)):
        return []
    names = instance_dict(thing)
    if len(names) > _FEW:
        return []
    return [
        ((f"{name}.{attribute}", None, None), part)
        for attribute, part in list(names.items())
        if type(attribute) is str and attribute.isidentifier()
    ]


def _key(key: object) -> str:
    return repr(key) if type(key) is int or (type(key) is str and len(key) <= _FEW) else "…"


def _locals(frame: FrameType, line: int) -> Iterator[tuple[Label, object]]:
    """A frame's own names; none for a module's, whose locals are the user's variables."""
    owner = dict.get(frame.f_globals, "__name__")
    if at_top(frame.f_code) or (type(owner) is str and owner.partition(".")[0] in _OURS):
        return
    function = _function(frame, owner)
    for name, thing in named(frame):
        yield (name, function, line), thing


def _function(frame: FrameType, module: object) -> str:
    """A function's name; of a library's with its module and class, for the bare name is one of hundreds."""
    code = frame.f_code
    if type(module) is not str or is_users(code.co_filename.replace("\\", "/")):
        return code.co_name
    return f"{module}.{code.co_qualname}"


def named(frame: FrameType) -> list[tuple[str, object]]:
    """Give a frame's names and objects.

    A class body's may lie in a mapping of the user's, whose methods are not called.
    """
    names: Any = frame.f_locals
    if issubclass(type(names), dict):
        items = dict.items(names)
    elif frame.f_code.co_flags & CO_OPTIMIZED:  # a function's, since Python 3.13
        items = names.items()
    else:
        return []
    return [(name, thing) for name, thing in items if type(name) is str]
