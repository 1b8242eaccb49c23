"""A function that gives rows by their numbers: seen to do so, and held to what it gave."""

from __future__ import annotations

import builtins
import copy
import sys
import zlib
from collections.abc import Callable
from types import CellType, CodeType, FunctionType
from typing import Any

from nb_oomhelper.errors import RowsError
from nb_oomhelper.remedies.joined_rows import is_same
from nb_oomhelper.remedies.probing import DEPEND, drawn_apart

_MANY, _SOME = 64 << 20, 1 << 18  # bytes of what the rows are computed from, that are looked at for changes
_ITEMS = 200  # of a list, that are looked at
_PROBES = 64  # rows from all over, that are computed in other company as well


def as_now(function: Callable[[Any], Any], copied: tuple[type, ...]) -> Callable[[Any], Any]:
    """Give a function with what its names stand for now: bound anew they would mean something else later.

    Args:
        function: The function.
        copied: Types of what may be changed later, and of which a copy takes nothing.
    """
    if type(function) is not FunctionType:
        return function

    def now(one: Any) -> Any:
        return copy.copy(one) if type(one) in copied else one

    names = _names_of(function.__code__) & function.__globals__.keys()
    known = {name: now(function.__globals__[name]) for name in names}
    known["__builtins__"] = function.__globals__.get("__builtins__", builtins)
    cells = tuple(CellType(now(one.cell_contents)) for one in function.__closure__ or ())
    found = FunctionType(function.__code__, known, function.__name__, function.__defaults__, cells)
    found.__kwdefaults__ = function.__kwdefaults__
    return found


def _names_of(code: CodeType) -> set[str]:
    return {*code.co_names}.union(*(_names_of(one) for one in code.co_consts if isinstance(one, CodeType)))


def _marks(reads: list[Any], most: int) -> list[int]:
    """What tells of changes of arrays, of sparse matrices, and of lists of arrays: of all in them, or of a part."""
    numpy, found = sys.modules["numpy"], []
    for one in reads:
        some = one[:: 1 + len(one) // _ITEMS] if type(one) is list else [one]
        for item in some:
            array = item.data if type(item).__module__.startswith("scipy.sparse") else item
            if isinstance(array, numpy.ndarray) and array.ndim and not array.dtype.hasobject:
                part = array[:: max(1, -(-array.nbytes * len(some) // most))]
                found.append(zlib.crc32(numpy.ascontiguousarray(part).reshape(-1).view("u1")))
    return found


class Source:
    """Gives rows by a function, and sees that what that reads has not changed, as far as can be told fast."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function, self._zero = function, sys.modules["numpy"].zeros(1, int)
        self._first = function(self._zero).copy()
        inner = [one.cell_contents for one in getattr(function, "__closure__", None) or ()]
        self._reads = [*getattr(function, "__globals__", {}).values(), *inner]  # of `as_now`: what it names alone
        self._marks = {most: _marks(self._reads, most) for most in (_MANY, _SOME)}
        self._form = (self._first.dtype, self._first.shape[1:])
        self._last: tuple[slice, Any] = (slice(0, 0), None)  # what one result needs twice is computed once

    def rows(self, which: Any) -> Any:
        """Give rows.

        Args:
            which: Their numbers: an array, or a slice.

        Raises:
            RowsError: They would be others by now.
        """
        if not isinstance(which, slice):
            self._see(self._function(self._zero), _SOME)
            return self._made(which)
        before, rows = self._last
        if which != before:
            if which.start not in (0, before.stop):  # nor goes on where rows were read just now
                self._see(self._function(self._zero), _SOME)
            self._last, rows = (slice(0, 0), None), None
            rows = self._made(sys.modules["numpy"].arange(which.start, which.stop, which.step or 1))
            self._last = which, rows
        if which.start == 0 and which.stop:
            self._see(rows[:1], _MANY if which.stop > 1 else _SOME)  # one row is read to see what comes of another step
        return rows

    def _made(self, numbers: Any) -> Any:
        rows = self._function(numbers)
        if rows.dtype != self._form[0] or rows.shape != (len(numbers), *self._form[1]):
            raise RowsError("rows of another form came than the first one")
        rows = rows.view()
        rows.flags.writeable = False  # they are kept for what is computed of them next
        return rows

    def _see(self, first: Any, most: int) -> None:
        if _marks(self._reads, most) != self._marks[most] or not is_same(first, self._first, values=True):
            self._last = slice(0, 0), None
            raise RowsError("what the rows are computed from has changed since")


def see_rows(function: Callable[[Any], Any], count: int, bytes_at_once: int) -> None:
    """See with rows from all over that they do not depend on each other, nor on how they are asked for.

    Args:
        function: Gives rows by their numbers.
        count: How many there are.
        bytes_at_once: Bytes of rows that are tried at a time, or two rows.

    Raises:
        RowsError: They do, or on random numbers; or it gives no rows of an array.
    """
    numpy, found = sys.modules["numpy"], None
    row = getattr(function(numpy.zeros(1, int)), "nbytes", 1)
    most = min(_PROBES, count, max(2, bytes_at_once // max(1, row)))
    while found is None:
        at = numpy.linspace(0, count - 1, most).astype(int)
        some = [numpy.arange(2), at[: most // 2], at[most // 2 :], at]
        found = drawn_apart(function, [(function, [one]) for one in some], last=most == 2)
        most = max(2, most // 2)
    (beginning, first, second, together), drawn = found
    if drawn:
        raise RowsError("random numbers are drawn: the rows would be others each time that they are read")
    if {type(one) for one in found[0]} != {numpy.ndarray}:
        raise RowsError(f"it gives {type(together).__name__}, which is no array of NumPy's")
    if not together.shape == (len(at), *beginning.shape[1:]) == (len(first) + len(second), *first.shape[1:]):
        raise RowsError(DEPEND)
    both = numpy.concatenate([first, second])
    if not is_same(both, together, values=True) or not is_same(beginning[:1], together[:1], values=True):
        raise RowsError(DEPEND)
