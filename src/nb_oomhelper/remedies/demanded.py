"""Rows of an array that is not there: some are computed when they are asked for, all of them a few at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nb_oomhelper.errors import RowsError
from nb_oomhelper.remedies.probing import attempt

_DEEP = 50  # so many times rows are made of others
_BLOCK = 8 << 20  # bytes of rows that are computed at a time; what they are made of may take several times as much


class WholeError(Exception):
    """Something that needs all rows at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demanded:
    """What is known of the rows.

    Attributes:
        make: Gets the numbers of rows, none negative: an array, or a slice with a start, an end and a step above 0;
            gives these rows.
        shape: Of all of them together.
        dtype: The type of their numbers, as NumPy's.
        few: Bytes: results up to that are computed at once.
        wide: Bytes of one row where it is widest, on the way to it.
        depth: How many times they are made of others, one after the other.
    """

    make: Callable[[Any], Any]
    shape: tuple[int, ...]
    dtype: Any
    few: int
    wide: int
    depth: int = 0

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that all of them would take."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def then(self, function: Callable[[Any], Any]) -> Demanded:
        """Give the rows that a function makes of these, each of its own.

        Args:
            function: Gets some rows as an array, gives one for each.
        """
        return demanded(lambda which: function(self.make(which)), self.count, self)

    def with_numbers(self, function: Callable[[Any, Any], Any]) -> Demanded:
        """As `then`, with a function that gets the numbers of the rows as well, as an array.

        Args:
            function: Gets rows and their numbers.
        """
        numpy, count = sys.modules["numpy"], self.count

        def make(which: Any) -> Any:
            numbers = numpy.arange(*which.indices(count)) if isinstance(which, slice) else numpy.asarray(which)
            return function(self.make(which), numbers)

        return demanded(make, count, self)

    def at(self, numbers: Any) -> Demanded:
        """Give some of the rows, which are computed when they are asked for, too.

        Args:
            numbers: Which: a range, or an array of numbers that are not negative.
        """
        return demanded(lambda which: self.make(_chosen(numbers, which)), len(numbers), self)

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """Compute all rows, some at a time: the number of the first, and they."""
        done, size = 0, max(1, _BLOCK // max(1, self.wide))
        while done < self.count:
            one = attempt(self.make, [slice(done, min(done + size, self.count))], last=size == 1)
            if one is None:
                size = -(-size // 2)
                continue
            rows = one[0]
            del one
            yield done, rows
            done += len(rows)
            del rows

    def whole(self) -> Any:
        """Compute all rows, and give the array: as much memory as it takes is needed."""
        found = sys.modules["numpy"].empty(self.shape, self.dtype)
        for start, rows in self.blocks():
            found[start : start + len(rows)] = rows
        return found


def demanded(make: Callable[[Any], Any], count: int, *of: Demanded) -> Demanded:
    """Give rows of which one is computed to see what they are.

    Args:
        make: As of `Demanded`.
        count: How many there are.
        of: What they are made of, if that is rows, too.

    Raises:
        RowsError: It gives no rows of an array.
        WholeError: They are made of others, too many times one after the other, or come out as something else.
    """
    depth = max((one.depth + 1 for one in of), default=0)
    if depth > _DEEP:
        raise WholeError
    some = min(1, count)
    row = make(slice(0, some))
    if type(row) is not sys.modules["numpy"].ndarray or row.shape[:1] != (some,) or row.dtype.hasobject:
        if of:
            raise WholeError
        raise RowsError(f"it gives {type(row).__name__}, which is no array with a row for each number")
    shape = (count, *row.shape[1:])
    wide = math.prod(shape[1:]) * row.dtype.itemsize
    few = max((one.few for one in of), default=count * wide // 8)
    wide = max(wide, *(one.wide for one in of), 1)
    return Demanded(make=make, shape=shape, dtype=row.dtype, few=few, wide=wide, depth=depth)


def _chosen(numbers: Any, which: Any) -> Any:
    """The numbers of rows, of some that were chosen before."""
    if not isinstance(numbers, range):
        return numbers[which]
    if not isinstance(which, slice):
        return numbers.start + numbers.step * which
    some = numbers[which]
    if some.step < 0:
        return sys.modules["numpy"].arange(some.start, some.stop, some.step)
    return slice(some.start, some.stop, some.step)
