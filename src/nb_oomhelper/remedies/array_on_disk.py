"""An array on disk that is filled part by part: `nb_oomhelper.ArrayOnDisk`."""

from __future__ import annotations

import math
import operator
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from nb_oomhelper.errors import RowsError, UsageError
from nb_oomhelper.remedies.demand_views import FIXED, IN_USE
from nb_oomhelper.remedies.demanded import Demanded
from nb_oomhelper.remedies.disk_file import DiskFile
from nb_oomhelper.remedies.on_demand import OnDemand

_CHANGED = "the array on disk has been written to since this was made of it"


class ArrayOnDisk(OnDemand):
    """An array that lies in a temporary file, in parts along one axis: `paths[t] = paths[t - 1] + step`.

    It is read as what `on_demand` gives. What is read of it cannot be written to, and what was made of it is computed
    when it is read, so not after more was written.
    """

    __slots__ = ("_disk", "_parts")
    __hash__ = None

    def __init__(self, make: Callable[..., Any], shape: Any, *given: Any, axis: int = 0, **options: Any) -> None:
        """Begin with what `make(shape)` gives.

        Args:
            make: `np.zeros`, `np.ones`, `np.empty` or `np.full`.
            shape: As of `make`.
            given, options: More arguments of `make`.
            axis: Along which it is written part by part: 0, or 1 of two.

        Raises:
            UsageError: It has no such axis, or no folder on a disk can be written to.
        """
        numpy = sys.modules["numpy"]
        sides = tuple(map(operator.index, shape)) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
        if axis not in range(2) or (axis and len(sides) != 2) or min(sides, default=0) < 1:
            raise UsageError("an array on disk needs a shape, and axis=0, or axis=1 of two")
        first = make((1,) * len(sides), *given, **options)
        self._disk = _Disk(sides, first.dtype, axis, numpy.array(first.reshape(-1)[0]))
        self._parts = weakref.WeakValueDictionary[int, Any]()
        super().__init__(self._disk.rows())

    def __getitem__(self, key: Any) -> Any:
        found = None if self._rows.depth else self._disk.part_of(key)
        if found is None:
            return super().__getitem__(key)
        number, rest = found
        part = self._parts.get(number)
        if part is None:
            part = self._disk.part(number)
            part.flags.writeable = False
            self._parts[number] = part
        return part[rest]

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._rows.depth:  # something is done to all of it, as by `x /= 255`
            raise TypeError(FIXED)
        numbers, rest, single = self._disk.split(key)
        if self._views or any(one in self._parts for one in numbers):
            raise TypeError(IN_USE)
        self._disk.write(numbers, rest, sys.modules["numpy"].asarray(value), single=single)
        self._rows = self._disk.rows()


class _Disk:
    """The file, in which parts lie one after the other."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, axis: int, fill: Any) -> None:
        self._file, self._axis, self._fill = DiskFile(), axis, fill
        self._shape, self._dtype = shape, dtype
        self._side = (*shape[:axis], *shape[axis + 1 :])
        self._size = math.prod(self._side) * int(dtype.itemsize)
        self._written = sys.modules["numpy"].zeros(shape[axis], bool)
        self._changes = 0

    def rows(self) -> Demanded:
        """Give the rows as they are now."""
        nbytes = self._size * self._shape[self._axis]
        return Demanded(
            make=partial(self._rows, self._changes),
            shape=self._shape,
            dtype=self._dtype,
            few=nbytes // 8,
            wide=max(1, nbytes // self._shape[0]),
        )

    def part(self, number: int) -> Any:
        """Read a part."""
        made = sys.modules["numpy"].empty(self._side, self._dtype)
        if self._written[number]:
            self._file.read(made.reshape(-1).view("u1"), number * self._size)
        else:
            made[...] = self._fill
        return made

    def part_of(self, key: Any) -> tuple[int, Any] | None:
        """Tell which part an index is of, and which of it; None where it is of several."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) <= self._axis or len(keys) > len(self._shape) or not all(map(_is_simple, keys)):
            return None
        if isinstance(keys[self._axis], slice) or not _is_number(keys[self._axis]):
            return None
        number = range(self._shape[self._axis])[operator.index(keys[self._axis])]
        return number, (*keys[: self._axis], *keys[self._axis + 1 :])

    def split(self, key: Any) -> tuple[range, Any, bool]:
        """Tell which parts are written to, which of each, and whether it is a single one."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > len(self._shape) or any(one is None or one is Ellipsis for one in keys):
            raise TypeError("an array on disk is written to by numbers and slices")
        along = keys[self._axis] if len(keys) > self._axis else slice(None)
        rest = (*keys[: self._axis], *keys[self._axis + 1 :])
        every = range(self._shape[self._axis])
        if isinstance(along, slice):
            return every[along], rest, False
        at = every[operator.index(along)]
        return range(at, at + 1), rest, True

    def write(self, numbers: range, rest: Any, value: Any, *, single: bool) -> None:
        """Write into some parts."""
        numpy, self._changes = sys.modules["numpy"], self._changes + 1
        whole = all(isinstance(one, slice) and one == slice(None) for one in rest)
        some = numpy.empty(self._side, bool)[rest].shape if not single else ()
        across = 1 if self._axis and len(some) else 0
        if not single:
            value = numpy.broadcast_to(value, (*some[:across], len(numbers), *some[across:]))
        for at, number in enumerate(numbers):
            part = numpy.empty(self._side, self._dtype) if whole else self.part(number)
            part[rest] = value if single else value.take(at, axis=across)
            self._file.write(part.reshape(-1).view("u1"), number * self._size)
            self._written[number] = True

    def _rows(self, changes: int, which: Any) -> Any:
        if changes != self._changes:
            raise RowsError(_CHANGED)
        numpy = sys.modules["numpy"]
        numbers = range(*which.indices(self._shape[0])) if isinstance(which, slice) else which
        made = numpy.empty((len(numbers), *self._shape[1:]), self._dtype)
        if self._axis:
            self._read_across(made, which, numbers)
        elif isinstance(numbers, range) and numbers.step == 1 and self._written[which].all():
            self._file.read(made.reshape(-1).view("u1"), numbers.start * self._size)
        else:
            for at, number in enumerate(numbers):
                made[at] = self.part(int(number))
        return made

    def _read_across(self, made: Any, which: Any, numbers: Any) -> None:
        """Read rows where the columns lie one after the other."""
        numpy, item = sys.modules["numpy"], int(self._dtype.itemsize)
        in_line = isinstance(numbers, range) and numbers.step == 1
        piece = numpy.empty(len(numbers), self._dtype)
        for column in range(self._shape[1]):
            if in_line and self._written[column]:
                self._file.read(piece.view("u1"), column * self._size + numbers.start * item)
                made[:, column] = piece
            else:
                made[:, column] = self.part(column)[which]


def _is_number(one: Any) -> bool:
    return hasattr(one, "__index__") and not isinstance(one, bool) and not getattr(one, "ndim", 0)


def _is_simple(one: Any) -> bool:
    return isinstance(one, slice) or _is_number(one)
