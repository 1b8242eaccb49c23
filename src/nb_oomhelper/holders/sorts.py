"""What the search does with an object, told by its class alone."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType, ModuleType

from nb_oomhelper.frameworks import _python
from nb_oomhelper.holders.roots import Roles, role_of

# Classes are told apart by identity: a metaclass may define `__eq__` and `__hash__`, which would be called.
_ATOMS = frozenset(map(id, _python.ATOMS))
_NOTHING = frozenset(map(id, (bool, type(None), range, slice)))
_CLOSED = (type, ModuleType, CodeType)  # they lead to whole libraries, not to holdings
SKIPPED, ATOM, FOLLOWED, KNOWN = range(4)


class Sorts:
    """Tells an object's sort by its class: skipped, one that refers to nothing, followed, or known to a framework.

    Attributes:
        by_class: The class, which it keeps alive, and the sort, by the id of the class.
    """

    def __init__(self, tracers: Sequence[Roles]) -> None:
        self._tracers = tracers
        self.by_class: dict[int, tuple[type, int]] = {}

    def of(self, thing: object) -> tuple[type, int]:
        """Give an object's class and its sort."""
        kind = type(thing)
        entry = self.by_class.get(id(kind))
        if entry is None:
            entry = self.by_class[id(kind)] = (kind, self._sort(thing, kind))
        return entry

    def _sort(self, thing: object, kind: type) -> int:
        if id(kind) in _ATOMS:
            return ATOM
        if id(kind) in _NOTHING or issubclass(kind, _CLOSED):
            return SKIPPED
        return FOLLOWED if role_of(thing, self._tracers) is None else KNOWN  # by class alone
