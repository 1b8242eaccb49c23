"""What was read of an array that is computed on demand, and would share its memory if that were there."""

from __future__ import annotations

import sys
import weakref
from typing import Any

FIXED = "its rows are computed when they are read, and cannot be changed: numpy.array(x) gives a whole array"
IN_USE = (
    "parts of it that were read are still in use, and would not change with it: read copies, or numpy.array(x) gives "
    "a whole array"
)


class Views:
    """What is still there of what was read."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known = dict[int, "weakref.ref[Any]"]()

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, one: Any) -> None:
        """Note what was read, as long as it is there.

        Args:
            one: It: where it is an array, one with memory of its own, which what is cut out of it keeps alive.
        """
        known, at = self._known, id(one)
        known[at] = weakref.ref(one, lambda _: known.pop(at, None))

    def fixed(self, found: Any) -> Any:
        """Give an array that nobody can write to, as it would change nothing of what is read later; and note it.

        Args:
            found: The array; anything else is given as it is.
        """
        if isinstance(found, sys.modules["numpy"].ndarray):
            found = found if found.base is None else found.copy()
            found.flags.writeable = False
            self.add(found)
        return found
