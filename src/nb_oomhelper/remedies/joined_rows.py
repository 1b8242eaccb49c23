"""What a function gives for some rows after others: joined along the first axis, and compared."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from nb_oomhelper.errors import RowsError

_CLOSE = {2: 3e-2, 4: 1e-3}  # of the largest number, by the bytes of one: products of other rows are rounded otherwise
_CLOSE_ELSE = 1e-6


class Joined:
    """Rows that come part by part; those of arrays and tensors are put right where all of them lie."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first: Any = None  # of the parts; of arrays and tensors without rows
        self._made: Any = None

    def put(self, start: int, count: int, part: Any) -> None:
        """Put some rows behind those that are there.

        Args:
            start: How many there are.
            count: How many come.
            part: They.

        Raises:
            RowsError: It is something else than so many rows, or they have another form than those before.
        """
        if self._made is None:
            self._begin(part)
        if not _has_form(part, self._first) or not (_is_many(part) or len(part) == count):
            raise RowsError("a part gave something else than its rows")
        if _is_many(part):
            for joined, one in zip(self._made, _parts(part), strict=True):
                joined.put(start, count, one)
        elif type(part) is list:
            self._made += part
        else:
            self._made[start : start + count] = part.detach() if hasattr(part, "detach") else part

    def _begin(self, part: Any) -> None:
        if _is_many(part):
            self._first, self._made = part, [Joined(self._count) for _ in _parts(part)]
        elif type(part) is list:
            self._first, self._made = part, []
        elif _is_rows(part):
            self._first, self._made = part[:0], _room_for(part, self._count)
        else:
            raise RowsError(f"it gives {type(part).__name__}, of which parts cannot be joined")

    def whole(self) -> Any:
        """Give all rows, in the form of the parts."""
        if not _is_many(self._first):
            return self._made
        made = [one.whole() for one in self._made]
        if isinstance(self._first, dict):
            return type(self._first)(zip(self._first, made, strict=True))
        make = getattr(type(self._first), "_make", type(self._first))
        return make(made)


def is_same(made: Any, other: Any, *, values: bool) -> bool:
    """Tell whether two results are the same, but for how their numbers are rounded.

    Args:
        made, other: The results, as of `Joined.whole`.
        values: Compare what the numbers are, too, and not only their form.
    """
    if not _has_form(other, made):
        return False
    if _is_many(made):
        return all(is_same(one, two, values=values) for one, two in zip(_parts(made), _parts(other), strict=True))
    if len(made) != len(other):
        return False
    if type(made) is list:
        return not values or all(_are_equal(one, two) for one, two in zip(made, other, strict=True))
    return not values or _are_equal(made, other)


def _has_form(part: Any, first: Any) -> bool:
    """Whether a part is like the first: its class and keys, the shape of a row, and its numbers."""
    if type(part) is not type(first):
        return False
    if isinstance(part, dict):
        return list(part) == list(first)
    if not _is_rows(part):
        return not _is_many(part) or len(part) == len(first)
    same = part.shape[1:] == first.shape[1:] and part.dtype == first.dtype
    return same and getattr(part, "device", None) == getattr(first, "device", None)


def _is_many(thing: Any) -> bool:
    return isinstance(thing, (tuple, dict))


def _parts(many: Any) -> Iterable[Any]:
    return many.values() if isinstance(many, dict) else many


def _is_rows(thing: Any) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    array = numpy is not None and type(thing) is numpy.ndarray
    return (array or (torch is not None and isinstance(thing, torch.Tensor))) and thing.ndim > 0


def _room_for(part: Any, count: int) -> Any:
    shape = (count, *part.shape[1:])
    if hasattr(part, "new_empty"):
        return part.new_empty(shape)
    return sys.modules["numpy"].empty(shape, part.dtype)


def _are_equal(made: Any, other: Any) -> bool:
    if not _is_rows(made) or not _is_rows(other):
        return bool(type(made) is type(other) and made == other)
    if made.shape != other.shape:
        return False
    one, two = _array(made), _array(other)
    if one.dtype.kind not in "fc":
        return bool((one == two).all())
    numpy = sys.modules["numpy"]
    largest = numpy.nan_to_num(abs(two), nan=0, posinf=0, neginf=0).max(initial=0)
    close = _CLOSE.get(made.dtype.itemsize, _CLOSE_ELSE)
    return bool(numpy.allclose(one, two, rtol=close, atol=close * largest, equal_nan=True))


def _array(rows: Any) -> Any:
    """A tensor's numbers as an array of NumPy's, which knows no bfloat16."""
    if not hasattr(rows, "detach"):
        return rows
    plain = rows.detach().cpu()
    return (plain.double() if plain.is_floating_point() else plain).numpy()
